"""The command line that the programs which train a model of `test/Models` share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def begin(description: str, out: Path) -> argparse.Namespace:
    """Parse --steps, --threads, --out (default `out`) and --seed, and set up torch accordingly."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args
