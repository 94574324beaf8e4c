"""Runs the kernels for factors of f32 (three products of tf32) as check_kernels.py does others.

usage: check_f32.py MOE_OPT [NAME…]      (all variants, or those whose name starts so)
       check_f32.py MOE_OPT --mutants    damaged kernels, each of which must be found out

Factors have all 24 bits, and the bound is that of docs/GPU.md, which plain tf32 misses by far.
"""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np

import check_kernels
from check_kernels import Variant, each, emulation


@dataclasses.dataclass
class F32(Variant):
    """Factors of f32; `positive` sums grow all the way."""

    kind: str = "f32"
    out: str = "f32"
    positive: bool = False

    def factors(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Magnitudes from 2⁻⁸ to 4."""
        signs = 1 if self.positive else generator.choice([-1.0, 1.0], shape)
        return (signs * np.exp2(generator.uniform(-8, 2, shape))).astype(np.float32)

    def rounding(self) -> float:
        """2⁻²¹ for a product, as much for sums of three mma, and f32's for the sum of those."""
        return 2.0**-20 + -(-self.k // 8) * 2.0**-24


VARIANTS = [
    F32("plain"),
    F32("parts-of-tiles", n=36, k=100),
    F32("odd-columns", n=33, k=36),
    F32("one-step", k=4, n=16),
    F32("transposed", transposed=True, n=36, k=76),
    F32("transposed-bf16", out="bf16", transposed=True, gathered=True),
    F32("gated", gated=True, gathered=True, n=48),
    F32("gated-transposed", gated=True, gathered=True, transposed=True, n=100, k=44,
        config=(32, 32, 2, 1, 2)),
    F32("alternating", gated=True, alternating=(1, 0), gathered=True, transposed=True, n=38, k=44,
        config=(32, 32, 2, 1, 2)),
    F32("alternating-few-rows", gated=True, alternating=(0, 1), transposed=True, n=72, extras=True,
        config=(16, 64, 1, 4, 4), rows=((1, 0, 17, 3), (0, 0, 0, 2))),
    F32("alternating-rows", gated=True, alternating=(0, 1), n=40),
    F32("prologue", permuted=True, prologue="weights", gathered=True, k=100),
    F32("extras", extras=True, gathered=True, n=40),
    F32("few-rows", config=(16, 64, 1, 4, 4), rows=((1, 0, 17, 3), (0, 0, 0, 2))),
    F32("few-rows-transposed", transposed=True, config=(16, 64, 1, 4, 4), n=72,
        rows=((1, 0, 17, 3), (0, 0, 0, 2))),
    F32("128x128", config=(128, 128, 2, 4, 4), n=136, k=160, gathered=True,
        rows=((150, 0, 1, 30),)),
    F32("128x128-transposed", config=(128, 128, 2, 4, 3), n=136, k=72, transposed=True, experts=2,
        rows=((129, 1),)),
    F32("128x64-of-two", config=(128, 64, 2, 4, 3), n=64, gated=True, rows=((129, 0, 3, 0),)),
    F32("many-experts", experts=70, dynamic_experts=True, config=(16, 32, 1, 2, 2), n=32, k=32,
        rows=(tuple((7 * e) % 5 for e in range(70)), (0,) * 69 + (3,))),
    F32("few-blocks", grid=2, n=136, k=64),
    F32("long-sums", k=4096, n=16, config=(16, 32, 1, 2, 2), positive=True, experts=1,
        rows=((9,),)),
]

SMALL = re.compile(r"llvm.fsub (%\w+), (%\w+)")


def without_small(text: str) -> str:
    """What x − big is subtracted from is big itself: small is 0."""
    return SMALL.sub(r"llvm.fsub \2, \2", text)


# A variant, and what is done to its kernel.
MUTANTS = {
    "products of tf32 alone": ("plain", without_small),
    "big with all bits": ("plain", lambda t: t.replace("(-8192 : i32)", "(-1 : i32)")),
    "a stage that nobody waits for": ("transposed", each("wait.group", "1", "2")),
    "pieces of panels at other places": (
        "transposed", lambda t: t.replace("llvm.xor", "llvm.or", 2)),
    "words of rows transposed": ("plain", each("nvvm.ldmatrix", "<row>", "<col>")),
    "fewer barriers": ("transposed", lambda t: t.replace("nvvm.barrier0", "", 1)),
}


def check_special_values(moe_opt: str) -> None:
    """What docs/GPU.md says of NaN, infinities, and the largest and smallest magnitudes."""
    variant = F32("special-values", n=16, k=32, experts=1, config=(16, 32, 1, 2, 2))
    lowered = check_kernels.lower(moe_opt, variant.text())
    kernels = emulation.compile_kernels(emulation.kernels_of(lowered))
    generator = np.random.default_rng(1)
    w = variant.factors(generator, (1, variant.n, variant.k)) / np.float32(8)
    x = variant.factors(generator, (7, variant.k))
    x[:3, 5] = np.array([0x7FFFFFFF, 0xFF800001, 0x7F800000], np.uint32).view(np.float32)
    x[3, 5] = 3.4025e38  # beyond 2¹²⁸ − 2¹¹⁶
    x[4, 5] = 3.4015e38
    x[5] *= np.float32(2.0**-120)
    y = np.zeros((len(x), variant.n), np.float32)
    variant.launch(kernels, lowered, {"y": y}, [np.array([0, len(x)], np.int32), x, w, y], seed=1)
    finite = x[4:].astype(np.float64)
    size = np.abs(finite) @ np.abs(w[0].astype(np.float64)).T
    error = np.abs(y[4:] - finite @ w[0].astype(np.float64).T) / size
    bounds = np.array([variant.rounding(), 2.0**-10, variant.rounding()])
    if not np.isnan(y[:4]).all() or not (error <= bounds[:, None]).all():
        sys.exit(f"error: {variant.name}: got {y}")
    print(f"{variant.name}: ok")


def main() -> None:
    """Checks the variants asked for."""
    if len(sys.argv) == 2:
        check_special_values(sys.argv[1])
    check_kernels.check(VARIANTS, MUTANTS, sys.argv[1:])


if __name__ == "__main__":
    main()
