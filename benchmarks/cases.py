"""The case file: the layers that are measured, and the suites of points.

Sizes are those of the published models. H hidden, I inside an expert, E experts, k of them a token.
"""

from __future__ import annotations

from typing import NamedTuple

ELEMENT_BYTES = {"f32": 4, "bf16": 2}


class Case(NamedTuple):
    """A layer; router included, one call turns T×H hidden states into T×H."""

    name: str
    title: str
    hidden: int
    inner: int
    experts: int
    top_k: int
    family: str  # the importer's, also the name of a file in test/Zoo
    body: str = "swiglu"  # what an expert computes
    renormalize: bool = True  # whether a token's k weights are divided by their sum

    @property
    def matrices(self) -> int:
        """H×I matrices of an expert."""
        return 2 if self.body == "relu2" else 3

    def expert_bytes(self, dtype: str) -> int:
        """Weights of one expert."""
        return self.matrices * self.hidden * self.inner * ELEMENT_BYTES[dtype]

    def flops(self, tokens: int) -> int:
        """Operations of the contractions, router included."""
        experts = 2 * self.matrices * tokens * self.top_k * self.hidden * self.inner
        return experts + 2 * tokens * self.hidden * self.experts

    def touched_bytes(self, dtype: str, tokens: int, experts: int) -> int:
        """Bytes that a call has to move at least when it meets `experts` different experts."""
        size = ELEMENT_BYTES[dtype]
        rows = (self.experts + 2 * tokens) * self.hidden * size  # the router, x and y
        return experts * self.expert_bytes(dtype) + rows


CASES = {case.name: case for case in (
    Case("A", "OLMoE-1B-7B", 2048, 1024, 64, 8, "olmoe", renormalize=False),
    Case("B", "Qwen3-30B-A3B", 2048, 768, 128, 8, "qwen3_moe"),
    Case("C", "Mixtral-8x7B", 4096, 14336, 8, 2, "mixtral"),
    Case("D", "small", 768, 3072, 8, 2, "qwen3_moe"),
    Case("G", "gpt-oss-20B", 2880, 2880, 32, 4, "gpt_oss", body="gpt_oss"),
    Case("N", "Nemotron-like", 2688, 1856, 128, 6, "nemotron_h", body="relu2"),
    Case("tiny", "fits in the cache", 256, 512, 8, 2, "qwen3_moe"),
)}


class Points(NamedTuple):
    """One line of a suite: every number of tokens with every number of threads."""

    case: str
    dtype: str
    tokens: tuple[int, ...]
    threads: tuple[int, ...] = (2,)


SUITES = {
    # About six minutes on two cores with both torch peers.
    "short": (
        Points("A", "bf16", (1, 4, 16, 64, 256, 1024)),
        Points("A", "bf16", (1, 64, 256), (1,)),
        Points("A", "f32", (1, 64, 1024)),
        Points("B", "bf16", (1, 16, 64, 256, 1024)),
        Points("D", "bf16", (1, 64, 1024)),
        Points("D", "bf16", (1, 64), (1,)),
        Points("tiny", "bf16", (1,), (1, 2)),
    ),
}
