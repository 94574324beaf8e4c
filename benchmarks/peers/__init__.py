"""The programs that ours is measured against: a file and a class each.

    class Peer:
        rounding = "..."                      # in words, for the report
        def prepare(self, case, weights): ... # not timed; NotImplementedError: can't run this case
        def set_threads(self, count): ...
        def input(self, x): ...               # not timed: f32 T×H → whatever `run` takes
        def run(self, x): ...                 # timed: one call of the layer
        def result(self, y): ...              # not timed: what `run` returned → f64 T×H

`PEERS` names the file of each and the environment that it needs. A peer is imported only in the
process that measures it.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

# Name on the command line → environment. "" is the project's own.
PEERS = {"torch-eager": "", "torch-grouped": "", "zentorch": "zentorch",
         "vllm-experts": "vllm", "vllm-fused": "vllm"}


def load(name: str):
    """A new peer, from peers/NAME.py."""
    return importlib.import_module(f"peers.{name.replace('-', '_')}").Peer()


def interpreter(name: str) -> Path:
    """The Python of a peer's environment, which benchmarks/setup-peer makes."""
    environment = PEERS[name]
    if not environment:
        return Path(sys.executable)
    root = Path(os.environ.get("MOE_PEERS") or Path(__file__).resolve().parents[1] / ".peers")
    python = root / environment / "bin/python"
    if not python.exists():
        raise FileNotFoundError(f"{name} has an environment of its own, and {python} is not there: "
                                f"run benchmarks/setup-peer {environment}, or set MOE_PEERS to the "
                                "folder that it was made in")
    return python
