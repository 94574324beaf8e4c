"""Writes arguments for the block that host-compiler builds, and its result in float64.

usage: make_block.py REPOSITORY FOLDER

x.npy, router.npy, gate.npy, up.npy, down.npy, and y.npy = x + layer(x), rounded to f32 once.
"""

import sys
from pathlib import Path

import numpy as np

T, H, E, I, K = 11, 8, 4, 6, 2


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def main() -> None:
    repository, folder = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(repository / "python"))
    from moe import reference

    rng = np.random.default_rng(7)
    shapes = {"x": (T, H), "router": (E, H), "gate": (E, I, H), "up": (E, I, H), "down": (E, H, I)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x, router, gate, up, down = (array.astype(np.float64) for array in arrays.values())

    weights, ids = reference.gate(x @ router.T, K, renormalize=reference.Renormalize())
    offsets, slots, (rows,) = reference.dispatch(ids, E, [x])
    (results,) = reference.expert(
        offsets, [rows], [gate, up, down], [np.zeros_like(rows)],
        lambda e, xe, g, u, d: [silu(xe @ g.T) * (xe @ u.T) @ d.T])
    arrays["y"] = (x + reference.combine(results, slots, weights)).astype(np.float32)

    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


if __name__ == "__main__":
    main()
