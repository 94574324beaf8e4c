"""Packed weights: what moe-pack-weights makes of a layer, compiled and run.

The packed tensors are those that numpy makes of the same index expressions, and a layer gives the
same bits on them as on the stored ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from execution import Array, call, make_compiled, make_random  # noqa: F401, the last two: fixtures
from packing import pack_panels
from test_decoded_weights import runnable
from test_fusion import opt

from moe.tensors import bf16_bits

EXPERTS = 3
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

    def draw(self, random: np.random.Generator) -> Array:
        """Numbers that round, none of them 0."""
        values = random.normal(size=self.shape).astype(np.float32)
        if self.kind == "bf16":
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        return values.astype(STORED[self.kind])

    def select(self, weight: Array, read: str) -> Array:
        """What is read, as E×N×K."""
        e, n, k = np.indices((len(weight), self.columns, self.length), sparse=True)
        return weight[eval(read, {"e": e, "n": n, "k": k, "N": self.columns})]

    def pack(self, weight: Array) -> list[Array]:
        """The packed tensors, by their definition."""
        pair = 2 if self.kind == "bf16" else 1
        return [pack_panels(self.select(weight, read), pair) for read in self.reads]


def layer_text(cases: list[Case]) -> str:
    """Rows times each weight; the difference of two reads of it, where there are two."""
    arguments, values, types, body = [f"%o: tensor<{EXPERTS + 1}xi32>"], [], [], ""
    for i, case in enumerate(cases):
        stored = "x".join(map(str, case.shape[1:]))
        rows, weight = f"tensor<?x{case.length}xf32>", f"tensor<?x{stored}x{case.kind}>"
        out = f"tensor<?x{case.columns}xf32>"
        arguments += [f"%x{i}: {rows}", f'%w{i}: {weight} {{moe.name = "w{i}"}}']
        products = ", ".join(f"%x{i}[m, k] * %w{i}[{read.replace('N', str(case.columns))}]"
                             for read in case.reads)
        sums = [f"%p{j}" for j in range(len(case.reads))]
        body += f"""  %m{i} = tensor.dim %x{i}, %c0 : {rows}
  %e{i} = tensor.empty(%m{i}) : {out}
  %y{i} = moe.grouped_matmul offsets(%o : tensor<{EXPERTS + 1}xi32>)
      products({products} : {", ".join([rows, weight] * len(sums))}) outs(%e{i} : {out}) {{
  ^bb0({", ".join(f"{p}: f32" for p in sums)}):
    {"%d = arith.subf %p0, %p1 : f32" if len(sums) == 2 else ""}
    moe.yield {"%d" if len(sums) == 2 else "%p0"} : f32
  }}
"""
        values.append(f"%y{i}")
        types.append(out)
    return f"""func.func @layer({", ".join(arguments)}) -> ({", ".join(types)}) {{
  %c0 = arith.constant 0 : index
{body}  return {", ".join(values)} : {", ".join(types)}
}}
"""


def pack_layer(text: str) -> str:
    """With packed weights; one of the functions is compiled at a time, so neither names the other."""
    packed = opt(text, "--moe-pack-weights")
    assert "linalg.pack" in packed
    return packed.replace("moe.pack = @layer_pack, ", "")


CASES = [
    Case("bf16", 70, 9), Case("bf16", 64, 8, ("e, k, n",)), Case("bf16", 33, 6, ("e, n, k", "e, n + N, k")),
    Case("bf16", 40, 7, ("e, k, 2 * n", "e, k, 2 * n + 1")),
    Case("bf16", 5, 34, ("e, 2 * n, k", "e, 2 * n + 1, k")),
    Case("f32", 70, 9), Case("f32", 33, 5, ("e, k, n",)), Case("f32", 32, 6, ("e, k, 2 * n", "e, k, 2 * n + 1")),
    Case("f16", 33, 7), Case("f16", 64, 8, ("e, k, n",)),
]


# Ends of both, one element, one panel, less than a vector of columns or of k.
SIZES = [(70, 75), (1, 1), (32, 33), (3, 131), (96, 17)]
READS = [("e, n, k",), ("e, k, n",), ("e, n, k", "e, n + N, k"), ("e, k, 2 * n", "e, k, 2 * n + 1"),
         ("e, 2 * n, k", "e, 2 * n + 1, k"), ("e, k, n", "e, k, n + N")]


def name_of(case: Case) -> str:
    """For pytest's report."""
    return f"{case.kind}-{case.columns}x{case.length}-{case.reads[-1].replace(' ', '').replace(',', '')}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_layer(case, compiled, random):
    """A layer has the same bits on packed weights; one expert packs as all of them do."""
    text = pack_layer(layer_text([case]))
    pack = compiled(text, "layer_pack", *GENERAL, "--entry=layer_pack")
    plain = compiled(layer_text([case]), "layer", *GENERAL)
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


@pytest.mark.parametrize("flags", [flags for flags in runnable() if "amx" not in flags[0]], ids=lambda flags: flags[0].strip("-"))
def test_pack(flags, compiled, random):
    """Packing is numpy's on every instruction set, of experts in any number; padding is written."""
    kinds = list(STORED)
    cases = [Case(kinds[(i + j) % 3], *size, reads)
             for i, size in enumerate(SIZES) for j, reads in enumerate(READS)]
    pack = compiled(pack_layer(layer_text(cases)), "layer_pack", "-O1", *flags, "--entry=layer_pack")
    weights = [case.draw(random) for case in cases]
    for experts in (EXPERTS, 1, 0):
        expected = [case.pack(weight[:experts]) for case, weight in zip(cases, weights)]
        packed = [[np.full_like(array, 7) for array in arrays] for arrays in expected]
        call(pack, *(weight[:experts] for weight in weights), *(a for arrays in packed for a in arrays))
        for case, got, want in zip(cases, packed, expected):
            for read, one, other in zip(case.reads, got, want):
                np.testing.assert_array_equal(one, other, err_msg=f"{case}: {read}")


@pytest.mark.parametrize("flags", runnable(), ids=lambda flags: flags[0].strip("-"))
def test_products(flags, compiled, random):
    """Products of packed weights are right to the bit, where sums are exact; experts may be empty."""
    kinds = list(STORED)
    cases = [Case(kinds[(i + j) % 3], *size, reads)
             for i, size in enumerate(SIZES[::3]) for j, reads in enumerate(READS[::2])]
    layer = compiled(pack_layer(layer_text(cases)), "layer", "-O1", *flags, "--entry=layer")
    for rows in (1, 5, 40):
        offsets = np.array([0, rows // 3, rows // 3, rows], np.int32)
        arrays, expected = [], []
        for case in cases:
            weight = random.integers(-4, 5, case.shape).astype(np.float32)
            x = random.integers(-4, 5, (rows, case.length)).astype(np.float32)
            arrays += [x, *case.pack(bf16_bits(weight) if case.kind == "bf16"
                                     else weight.astype(STORED[case.kind]))]
            products = [np.concatenate([x[begin:end] @ columns.T for begin, end, columns in
                                        zip(offsets, offsets[1:], case.select(weight, read))])
                        for read in case.reads]
            expected.append(products[0] - products[1] if len(products) == 2 else products[0])
        results = [np.full_like(array, np.nan) for array in expected]
        call(layer, offsets, *arrays, *results)
        for case, got, want in zip(cases, results, expected):
            np.testing.assert_array_equal(got, want, err_msg=f"{case}, {rows} rows")
