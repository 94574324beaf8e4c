"""Make the arguments of stats.mlir: make_stats.py FOLDER [--tokens T]. Ids go from -1 to 6."""

import argparse
import random
from pathlib import Path

import tensors as ts

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--tokens", type=int, default=19)
options = parser.parse_args()
options.folder.mkdir(parents=True, exist_ok=True)

T = options.tokens
rng = random.Random(7)
ids = [rng.choice([-1, 0, 1, 1, 1, 2, 4, 4, 5, 6]) for _ in range(2 * T)]  # Nobody is on 3.
arrays = {"x": ts.normal(rng, "F32", T, 4), "ids": ts.make("I32", (T, 2), ids),
          "weights": ts.normal(rng, "F32", T, 2), "scale": ts.normal(rng, "F32", 5, 4)}
for name, tensor in arrays.items():
    (options.folder / f"{name}.npy").write_bytes(ts.npy_bytes(tensor))
