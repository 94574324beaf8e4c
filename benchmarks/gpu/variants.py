"""Which layers are compiled for GPUs, and how that is told to the machine that has one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from cases import CASES, Case

MANIFEST = "manifest.json"
FORMAT = 1
FAT = ("sm_80", "sm_90a")  # a call takes what is best for its device
OLDER = ("sm_80",)  # the mma.sync kernels, on newer devices as PTX
# Numbers of tokens that code is made for: with few, weights are all that moves, and the kernels
# are others. 0 is code for any number.
TOKENS = {"bf16": (0, 1, 4, 8, 64, 256, 512), "f32": (0, 1, 8, 64)}
OLDER_TOKENS = (0, 8)


class Variant(NamedTuple):
    """A layer compiled for a number of tokens, or for any (0), and some GPUs."""

    case: Case
    dtype: str
    tokens: int
    chips: tuple[str, ...]

    @property
    def name(self) -> str:
        """As its files are called."""
        tokens = f"T{self.tokens}" if self.tokens else "any"
        return f"{self.case.name}-{self.dtype}-{tokens}-{'+'.join(self.chips)}"


def all_variants() -> list[Variant]:
    """Every case and type for both generations; in bf16 the older one alone, too."""
    found = []
    for case in CASES.values():
        for dtype in case.types:
            found += [Variant(case, dtype, tokens, FAT) for tokens in TOKENS[dtype]]
            if dtype == "bf16":
                found += [Variant(case, dtype, tokens, OLDER) for tokens in OLDER_TOKENS]
    return found


class Artifact(NamedTuple):
    """What a manifest says of a compiled variant."""

    variant: Variant
    file: str  # beside the manifest
    digest: str  # SHA-256 of the file
    roles: tuple[str, ...]  # of data.shapes: the weights, in the order of the function's arguments
    kernels: tuple[str, ...]  # what each grouped matmul became, chip after chip


def to_json(artifact: Artifact) -> dict:
    """An entry of the manifest."""
    variant = artifact.variant._asdict() | {"case": artifact.variant.case._asdict()}
    return artifact._asdict() | {"variant": variant, "name": artifact.variant.name}


def from_json(entry: dict) -> Artifact:
    """The reverse; what is missing is an error."""
    fields = entry["variant"]
    raw = fields["case"]
    case = Case(**raw | {"types": tuple(raw["types"]),
                         "config": tuple((key, value) for key, value in raw["config"])})
    variant = Variant(case, fields["dtype"], fields["tokens"], tuple(fields["chips"]))
    return Artifact(variant, entry["file"], entry["digest"], tuple(entry["roles"]),
                    tuple(entry["kernels"]))


class Bundle(NamedTuple):
    """A folder of artifacts."""

    folder: Path
    commit: str  # that they were compiled at
    artifacts: tuple[Artifact, ...]

    def path(self, artifact: Artifact) -> Path:
        """The shared object."""
        return self.folder / artifact.file


def read_bundle(folder: Path) -> Bundle:
    """All artifacts of a folder, whole and unchanged, or ValueError."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is not there: make it with benchmarks/gpu/build.py") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{path} has format {manifest.get('format')}, and this script reads "
                         f"{FORMAT}: make it anew with benchmarks/gpu/build.py")
    bundle = Bundle(folder, manifest["commit"], tuple(map(from_json, manifest["artifacts"])))
    for artifact in bundle.artifacts:
        file = bundle.path(artifact)
        if not file.is_file():
            raise ValueError(f"{file} is not there, though {path.name} names it: carry all of "
                             "the folder")
        if digest_of(file) != artifact.digest:
            raise ValueError(f"{file} is not the file that {path.name} was written for: carry it "
                             "again")
    return bundle


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
