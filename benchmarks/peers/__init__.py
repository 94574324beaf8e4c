"""The programs that ours is measured against: a file and a class each.

    class Peer:
        rounding = "..."                      # in words, for the report
        def prepare(self, case, weights): ... # not timed
        def set_threads(self, count): ...
        def input(self, x): ...               # not timed: f32 T×H → whatever `run` takes
        def run(self, x): ...                 # timed: one call of the layer
        def result(self, y): ...              # not timed: what `run` returned → f64 T×H

A peer is imported only in the process that measures it, and there before our side is. It raises
NotImplementedError where it cannot do what is asked, and other errors where something is wrong.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from cases import BODIES, ELEMENT_BYTES, Case


class Program(NamedTuple):
    """What a peer needs and can run."""

    environment: str = ""  # of setup-peer; "" is the project's own
    types: tuple[str, ...] = tuple(ELEMENT_BYTES)
    bodies: tuple[str, ...] = BODIES
    multiple: int = 1  # of which H and I have to be


GATED = ("swiglu", "gpt_oss")
PEERS = {
    "zentorch": Program("zentorch", bodies=GATED),
    "vllm-experts": Program("vllm", types=("bf16",), bodies=("swiglu",), multiple=32),
    "vllm-fused": Program("vllm", bodies=GATED, multiple=32),
    "torch-eager": Program(),
    "torch-grouped": Program(bodies=GATED),
    "torch-compiled": Program(bodies=GATED),
    "onnxruntime": Program("onnxruntime", types=("f32",), bodies=GATED),
    "llamacpp": Program("llamacpp"),
}


def refusal(name: str, case: Case, dtype: str) -> str | None:
    """Why a peer cannot run a case, if it cannot."""
    peer = PEERS[name]
    if dtype not in peer.types:
        return f"it has no {dtype}, only {', '.join(peer.types)}"
    if case.body not in peer.bodies:
        return f"it has no experts of the kind {case.body}, only {', '.join(peer.bodies)}"
    if case.hidden % peer.multiple or case.inner % peer.multiple:
        return (f"its sizes are multiples of {peer.multiple}, and {case.hidden} and {case.inner} "
                "are not")
    return None


def load(name: str):
    """A new peer, from peers/NAME.py."""
    return importlib.import_module(f"peers.{name.replace('-', '_')}").Peer()


def interpreter(name: str) -> Path:
    """The Python of a peer's environment, which benchmarks/setup-peer makes."""
    environment = PEERS[name].environment
    if not environment:
        return Path(sys.executable)
    root = Path(os.environ.get("MOE_PEERS") or Path(__file__).resolve().parents[1] / ".peers")
    python = root / environment / "bin/python"
    if not python.exists():
        raise FileNotFoundError(f"{name} has an environment of its own, and {python} is not there: "
                                f"run benchmarks/setup-peer {environment}, or set MOE_PEERS to the "
                                "folder that it was made in")
    return python
