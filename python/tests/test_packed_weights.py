"""Packed weights: what moe-pack-weights makes of a layer, compiled and run.

The packed tensors are those that numpy makes of the same index expressions, and a layer gives the
same bits on them as on the stored ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from execution import Array, call, make_compiled, make_random  # noqa: F401, the last two: fixtures
from test_fusion import opt

EXPERTS, PANEL = 3, 32
STORED = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
GENERAL = ("-O0", "--lowering=general")


@dataclass(frozen=True)
class Case:
    """A weight, and the index expressions of its reads."""

    kind: str
    columns: int
    length: int
    reads: tuple[str, ...] = ("e, n, k",)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the stored tensor."""
        stored = self.columns * len(self.reads)
        return ((EXPERTS, self.length, stored) if self.reads[0].startswith("e, k")
                else (EXPERTS, stored, self.length))

    @property
    def text(self) -> str:
        """Rows times the weight; the difference of two reads, where there are two."""
        weight = "?x" + "x".join(map(str, self.shape[1:]))
        rows, out = f"tensor<?x{self.length}xf32>", f"tensor<?x{self.columns}xf32>"
        products = ", ".join(f"%x[m, k] * %w[{read.replace('N', str(self.columns))}]" for read in self.reads)
        types = ", ".join([rows, f"tensor<{weight}x{self.kind}>"] * len(self.reads))
        arguments = ", ".join(f"%p{i}: f32" for i in range(len(self.reads)))
        result = "%p0" if len(self.reads) == 1 else "%d"
        difference = "" if len(self.reads) == 1 else "    %d = arith.subf %p0, %p1 : f32\n"
        return f"""func.func @layer(%o: tensor<{EXPERTS + 1}xi32>, %x: {rows},
    %w: tensor<{weight}x{self.kind}> {{moe.name = "w"}}) -> {out} {{
  %c0 = arith.constant 0 : index
  %m = tensor.dim %x, %c0 : {rows}
  %e = tensor.empty(%m) : {out}
  %y = moe.grouped_matmul offsets(%o : tensor<{EXPERTS + 1}xi32>) products({products} : {types})
      outs(%e : {out}) {{
  ^bb0({arguments}):
{difference}    moe.yield {result} : f32
  }}
  return %y : {out}
}}
"""

    def draw(self, random: np.random.Generator) -> Array:
        """Numbers that round, none of them 0."""
        values = random.normal(size=self.shape).astype(np.float32)
        if self.kind == "bf16":
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        return values.astype(STORED[self.kind])

    def pack(self, weight: Array) -> list[Array]:
        """The packed tensors, by their definition."""
        run = 2 if self.kind == "bf16" else 1
        padded = ((0, 0), (0, -self.columns % PANEL), (0, -self.length % run))
        packed = []
        for read in self.reads:
            e, n, k = np.indices((len(weight), self.columns, self.length), sparse=True)
            columns = np.pad(weight[eval(read, {"e": e, "n": n, "k": k, "N": self.columns})], padded)
            tiles = columns.reshape(len(weight), -1, PANEL, columns.shape[2] // run, run)
            tiles = tiles.transpose(0, 1, 3, 2, 4)
            packed.append(np.ascontiguousarray(tiles if run > 1 else tiles[..., 0]))
        return packed


CASES = [
    Case("bf16", 70, 9), Case("bf16", 64, 8, ("e, k, n",)), Case("bf16", 33, 6, ("e, n, k", "e, n + N, k")),
    Case("bf16", 40, 7, ("e, k, 2 * n", "e, k, 2 * n + 1")),
    Case("bf16", 5, 34, ("e, 2 * n, k", "e, 2 * n + 1, k")),
    Case("f32", 70, 9), Case("f32", 33, 5, ("e, k, n",)), Case("f32", 32, 6, ("e, k, 2 * n", "e, k, 2 * n + 1")),
    Case("f16", 33, 7), Case("f16", 64, 8, ("e, k, n",)),
]


def name_of(case: Case) -> str:
    """For pytest's report."""
    return f"{case.kind}-{case.columns}x{case.length}-{case.reads[-1].replace(' ', '').replace(',', '')}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_general(case, compiled, random):
    """Packing is numpy's; results have the same bits, and so has a slab of one expert."""
    # One of the functions is compiled at a time, so neither may name the other.
    text = opt(case.text, "--moe-pack-weights").replace("moe.pack = @layer_pack, ", "")
    assert "linalg.pack" in text
    pack = compiled(text, "layer_pack", *GENERAL, "--entry=layer_pack")
    plain = compiled(case.text, "layer", *GENERAL)
    layer = compiled(text, "layer", *GENERAL, "--entry=layer")
    weight = case.draw(random)
    expected = case.pack(weight)
    packed = [np.full_like(array, 7) for array in expected]
    call(pack, weight, *packed)
    for got, want in zip(packed, expected):
        np.testing.assert_array_equal(got, want)

    slabs = [np.full_like(array[:1], 7) for array in expected]
    call(pack, weight[1:2], *slabs)
    for got, want in zip(slabs, expected):
        np.testing.assert_array_equal(got, want[1:2])

    offsets, rows = np.array([0, 3, 3, 8], np.int32), 8
    x = random.normal(size=(rows, case.length)).astype(np.float32)
    results = [np.full((rows, case.columns), np.nan, np.float32) for _ in range(2)]
    call(plain, offsets, x, weight, results[0])
    call(layer, offsets, x, *packed, results[1])
    np.testing.assert_array_equal(results[0].view(np.int32), results[1].view(np.int32))
    assert np.abs(results[0]).max() > 0
