"""Packed weights: the sums that unpacked ones have, with every instruction set and row count.

Rows and weights are small integers, so that every sum is exact in f32, in any order, and results
are equal to numpy's. What the layout leaves over (columns from N on, the second element of the last
pair of an odd K) is NaN here where no result may use it, and rows end where their buffer does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from execution import Array, call, make_compiled, make_random  # noqa: F401
from moe.tensors import bf16_bits
from packing import PANEL, pack_panels
from test_decoded_weights import ceil, runnable

EXPERTS = 4
NUMPY = {"f32": np.float32, "f16": np.float16, "bf16": np.float32}


@dataclass(frozen=True)
class Shape:
    """The types of rows and weights, N, K, and whether gate and up are added up or multiplied."""

    row: str
    weight: str
    columns: int
    length: int

    @property
    def pair(self) -> int:
        return 2 if self.weight == "bf16" else 1

    @property
    def slab(self) -> tuple[int, ...]:
        sizes = ceil(self.columns, PANEL), ceil(self.length, self.pair), PANEL
        return sizes + ((self.pair,) if self.pair > 1 else ())

    @property
    def type(self) -> str:
        return f"tensor<{EXPERTS}x{'x'.join(map(str, self.slab))}x{self.weight}>"

    @property
    def index(self) -> str:
        if self.pair > 1:
            return "e, n floordiv 32, k floordiv 2, n mod 32, k mod 2"
        return "e, n floordiv 32, k, n mod 32"


SHAPES = {
    "bf16": Shape("bf16", "bf16", 45, 333),
    # Three parts of k for what rows keep in the second cache; an odd end.
    "long": Shape("bf16", "bf16", 70, 4401),
    "f32": Shape("f32", "f32", 45, 333),
    "f32_long": Shape("f32", "f32", 33, 2100),
    "f16": Shape("f32", "f16", 45, 77),
    "f32_rows": Shape("f32", "bf16", 45, 77),
    "bf16_rows": Shape("bf16", "f32", 32, 77),
    "one": Shape("bf16", "bf16", 1, 1),
    # Three panels, the last one not full: a lone row multiplies two at once and one after them.
    "odd": Shape("bf16", "bf16", 75, 333),
    "f32_odd": Shape("f32", "f32", 75, 333),
}


def pack(weights: Array, shape: Shape) -> Array:
    """E×N×K as the layout has it; what no result may use is NaN."""
    return pack_panels(weights, shape.pair, rest=np.nan)


def text(shape: Shape) -> str:
    """Gate and up of gathered tokens, then a combining matmul of their rows, for bf16 as a layer
    has them: packed weights in each."""
    rows, offsets = f"tensor<?x{shape.length}x{shape.row}>", f"tensor<{EXPERTS + 1}xi32>"
    out, kept = f"tensor<?x{shape.columns}xf32>", "tensor<?xi32>"
    factors = f"{rows}, {shape.type}, {rows}, {shape.type}"
    return f"""
func.func @op(%offsets: {offsets}, %source: {kept}, %slots: tensor<?x1xi32>,
              %weights: tensor<?x1xf32>, %x: {rows}, %gate: {shape.type}, %up: {shape.type},
              %init: {out}, %sum: {out}) -> ({out}, {out}) {{
  %gathered = moe.grouped_matmul offsets(%offsets : {offsets}) source(%source : {kept}) top_k(1)
      products(%x[t, k] * %gate[{shape.index}], %x[t, k] * %up[{shape.index}] : {factors})
      outs(%init : {out}) {{
  ^bb0(%p: f32, %q: f32):
    %r = arith.subf %p, %q : f32
    moe.yield %r : f32
  }}
  %combined = moe.grouped_matmul offsets(%offsets : {offsets})
      products(%x[m, k] * %gate[{shape.index}] + %x[m, k] * %up[{shape.index}] : {factors})
      combine(%slots : tensor<?x1xi32>, %weights : tensor<?x1xf32>) outs(%sum : {out}) {{
  ^bb0(%p: f32):
    moe.yield %p : f32
  }}
  return %gathered, %combined : {out}, {out}
}}
"""


def stored(array: Array, kind: str) -> Array:
    return bf16_bits(array) if kind == "bf16" else array.astype(NUMPY[kind])


# Rows of each expert: few; one tile or less; several, of two heights; more than a block has.
COUNTS = ((1, 2, 3, 4), (1, 0, 12, 3), (13, 2, 0, 31), (0, 0, 0, 0), (0, 297, 1, 25))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("flags", runnable(), ids="".join)
def test_sums(flags, name, compiled, random):
    shape = SHAPES[name]
    artifact = compiled(text(shape), "op", "-O0", *flags)
    for counts in COUNTS:
        offsets = np.cumsum([0, *counts]).astype(np.int32)
        total = sum(counts)
        source = random.permutation(total).astype(np.int32)
        slots = np.argsort(source).astype(np.int32)[:, None]
        x = random.integers(-2, 3, (total, shape.length)).astype(np.float32)
        gate, up = (random.integers(-2, 3, (EXPERTS, shape.columns, shape.length))
                    .astype(np.float32) for _ in range(2))
        results = [np.zeros((total, shape.columns), np.float32) for _ in range(2)]
        call(artifact, offsets, source, slots, np.ones((total, 1), np.float32),
             stored(x, shape.row), *(stored(pack(w, shape), shape.weight) for w in (gate, up)),
             *(np.zeros_like(r) for r in results), *results)
        for expert in range(EXPERTS):
            mine = slice(offsets[expert], offsets[expert + 1])
            np.testing.assert_array_equal(
                results[0][mine], x[source[mine]] @ (gate[expert] - up[expert]).T, f"{counts}")
            np.testing.assert_array_equal(
                results[1][source[mine]], x[mine] @ (gate[expert] + up[expert]).T, f"{counts}")


@pytest.mark.parametrize("name", ("odd", "f32_odd"))
@pytest.mark.parametrize("flags", runnable(), ids="".join)
def test_order(flags, name, compiled, random):
    """What a row gets does not depend on how many there are, nor on its place: numbers round, and
    a lone row multiplies two panels at once, others one."""
    shape = SHAPES[name]
    artifact = compiled(text(shape), "op", "-O0", *flags)
    x = random.normal(size=(297, shape.length))
    packed = [stored(pack(random.normal(size=(EXPERTS, shape.columns, shape.length))
                          .astype(np.float32), shape), shape.weight) for _ in range(2)]
    results = {}
    for total in (1, 2, 3, 4, 20, 45, 297):
        offsets = np.array([0, 0, total, total, total], np.int32)
        source = np.arange(total, dtype=np.int32)[::-1].copy()
        got = [np.zeros((total, shape.columns), np.float32) for _ in range(2)]
        call(artifact, offsets, source, source[:, None].copy(), np.ones((total, 1), np.float32),
             stored(x[:total].astype(np.float32), shape.row), *packed,
             *(np.zeros_like(r) for r in got), *got)
        results[total] = got[0][source], got[1][source]
    for total, got in results.items():
        for one, most in zip(got, results[297]):
            np.testing.assert_array_equal(one.view(np.int32), most[:total].view(np.int32))
            assert np.isfinite(one).all() and np.abs(one).max() > 0
