"""What is timed on a GPU, and against whom."""

from __future__ import annotations

import fnmatch
from typing import NamedTuple

from gpu.variants import FAT, Artifact, Bundle

PEERS = ("grouped_mm", "cublas-loop", "triton")
GEMMS = "cublas-gemms"  # no layer: the matrix products alone, on rows that are sorted already


class Line(NamedTuple):
    """A case and type with numbers of tokens."""

    case: str
    dtype: str
    tokens: tuple[int, ...]


DECODE, MIDDLE, PREFILL = (1, 4, 8), (64, 256, 512), (8192, 16384)
EVERY = DECODE + MIDDLE + PREFILL

SUITES = {
    # A few minutes.
    "short": (Line("B", "bf16", (1, 8, 64, 512, 8192)), Line("Q", "bf16", (1, 8, 64)),
              Line("C", "bf16", (8192,))),
    # What the bars are about.
    "bar": (Line("B", "bf16", EVERY), Line("Q", "bf16", EVERY), Line("A", "bf16", EVERY),
            Line("C", "bf16", (1, 8, 64, 512, 8192)), Line("D", "bf16", (1, 64, 512, 8192)),
            Line("G", "bf16", (1, 8, 64, 512, 8192)), Line("N", "bf16", (1, 8, 64, 512, 8192)),
            Line("A", "f32", (1, 8, 64, 8192)), Line("B", "f32", (1, 8, 64, 8192))),
}


def find_artifact(bundle: Bundle, case: str, dtype: str, tokens: int,
                  pattern: str = "*") -> Artifact | None:
    """The fat artifact that is best for this number of tokens."""
    best = None
    for artifact in bundle.artifacts:
        variant = artifact.variant
        if ((variant.case.name, variant.dtype, variant.chips) != (case, dtype, FAT)
                or variant.tokens not in (0, tokens)
                or not fnmatch.fnmatchcase(variant.name, pattern)):
            continue
        if best is None or variant.tokens:
            best = artifact
    return best


def available(line: Line, bundle: Bundle, pattern: str) -> list[int]:
    """The numbers of tokens of a line that there are artifacts for."""
    return [tokens for tokens in line.tokens
            if find_artifact(bundle, line.case, line.dtype, tokens, pattern)]
