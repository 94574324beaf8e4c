"""Models how exact sums of products of f32 are as tensor cores can make them (docs/GPU.md).

usage: model_f32.py

Tensor cores are taken to add 8 exact products of tf32 to a sum, and to cut that to f32. Prints the
worst of 400 errors, relative to the sum of the products' magnitudes, for each way to sum up.
"""

from __future__ import annotations

import sys

import numpy as np

SUMS, LENGTH, STEP = 400, 4096, 8


def cut(exact: np.ndarray) -> np.ndarray:
    """float64 rounded toward zero to f32."""
    nearest = exact.astype(np.float32)
    beyond = np.abs(nearest.astype(np.float64)) > np.abs(exact)
    return np.where(beyond, np.nextafter(nearest, np.float32(0)), nearest).astype(np.float32)


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """big and small of x, as the kernel computes them."""
    mask = np.uint32(0xFFFFE000)
    big = ((x.view(np.uint32) + np.uint32(0x1000)) & mask).view(np.float32)
    small = ((x - big).view(np.uint32) & mask).view(np.float32)
    return big.astype(np.float64), small.astype(np.float64)


def errors(x: np.ndarray, w: np.ndarray) -> dict[str, float]:
    """Of rows of x times rows of w."""
    exact = x.astype(np.float64) * w.astype(np.float64)
    (x_big, x_small), (w_big, w_small) = split(x), split(w)
    outside, inside, alone, fma = (np.zeros(len(x), np.float32) for _ in range(4))
    for k in range(0, x.shape[1], STEP):
        at = slice(k, k + STEP)
        product = np.zeros(len(x), np.float32)
        for a, b in ((x_small, w_big), (x_big, w_small), (x_big, w_big)):
            part = (a[:, at] * b[:, at]).sum(axis=1)
            product = cut(product + part)
            inside = cut(inside + part)
        outside += product
        alone = cut(alone + part)
        for one in exact[:, at].T:
            fma = (fma + one).astype(np.float32)
    sums = {"kept outside": outside, "in the tensor cores": inside, "FMAs of f32": fma,
            "tf32 alone": alone}
    want, size = exact.sum(axis=1), np.abs(exact).sum(axis=1)
    return {name: float((np.abs(got - want) / size).max()) for name, got in sums.items()}


def main() -> None:
    """Prints the table; 1 if sums kept outside are not at least as exact as FMAs."""
    generator = np.random.default_rng(0)
    shape = (SUMS, LENGTH)
    factors = {"positive": lambda: np.exp2(generator.uniform(-8, 2, shape)),
               "normal": lambda: generator.standard_normal(shape)}
    for kind, draw in factors.items():
        found = errors(draw().astype(np.float32), draw().astype(np.float32))
        print(f"{kind}: " + ", ".join(f"{name} {error:.1e}" for name, error in found.items()))
        if found["kept outside"] > found["FMAs of f32"]:
            sys.exit(f"error: {kind}: sums kept outside are less exact than FMAs")


if __name__ == "__main__":
    main()
