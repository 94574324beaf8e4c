"""Tiled ops give the bits of the ops they were, whatever the tiles.

The transform dialect tiles moe.gate, moe.combine and moe.grouped_matmul; both programs are compiled
and run on the same random numbers. Sums are not exact here: a tile has to add in the same order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from execution import call, make_compiled, make_random  # noqa: F401, the last two: fixtures
from test_fusion import opt
from test_gate_execution import GROUPS, all_gates, draw_gate_inputs, gates_text
from test_grouped_matmul import (CASES, LAYOUTS, NUMPY, ROUTINGS, Array, Case, N, Summand, XH,
                                 make_arrays, make_plan, stored, yield_all)

# What does not grow with n cannot be cut along n.
GROWING = [operand for operand in LAYOUTS if "- n" not in operand.index]
TILED = {**CASES, "layouts": replace(
    CASES["layouts"], products=[[Summand(XH, (o,))] for o in GROWING],
    body=yield_all(len(GROWING)), kinds=("f32",) * len(GROWING))}
# Where an index divides n, a tile starts at a multiple of the divisor.
COLUMNS = {"layouts": 4, "decode": 3, "prologue": 3, "extras": 2}

GENERAL = ("-O0", "--lowering=general")


def tile(text: str, op: str, sizes: tuple[int, ...], folder, how: str = "for") -> str:
    """`text` with all ops of this name tiled."""
    loops = 1 if how == "forall" else sum(size > 0 for size in sizes)
    results = ", ".join(["!transform.any_op"] * (1 + loops))
    library = folder / "tile.mlir"
    library.write_text(f"""module attributes {{transform.with_named_sequence}} {{
  transform.named_sequence @__transform_main(%root: !transform.any_op) {{
    %ops = transform.structured.match ops{{["{op}"]}} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled:{1 + loops} = transform.structured.tile_using_{how} %ops tile_sizes {list(sizes)}
        : (!transform.any_op) -> ({results})
    transform.yield
  }}
}}
""")
    tiled = opt(text, f"--transform-preload-library=transform-library-paths={library}",
                "--transform-interpreter", "--canonicalize", "--cse")
    assert tiled.count(f"scf.{how} ") >= loops and op in tiled
    return tiled


def draw(random: np.random.Generator, case: Case, tokens: int, rows: int) -> list[Array]:
    """The operands of a grouped matmul; numbers whose sums round."""
    arrays = make_arrays(random, case, tokens, rows)
    for name, array in arrays.items():
        if array.dtype != np.int8 and array.dtype != np.int32:
            arrays[name] = random.normal(size=array.shape).astype(array.dtype)
    return [stored(arrays[o.name], o.kind) for o in case.operands]


@pytest.mark.parametrize("how", ["for", "forall"])
@pytest.mark.parametrize("name", TILED)
def test_grouped_matmul(name, how, compiled, random, tmp_path):
    """By rows, so that a tile cuts experts in two, and by columns that do not divide N."""
    case = TILED[name]
    columns = COLUMNS.get(name, 4)
    tilings = [(columns,)] if case.combine else [(2, 0), (0, columns), (3, columns)]
    plain = compiled(case.text(), "op", *GENERAL)
    artifacts = [compiled(tile(case.text(), "moe.grouped_matmul", sizes, tmp_path, how), "op", *GENERAL)
                 for sizes in tilings]
    for routing in ROUTINGS:
        plan = make_plan(random, routing)
        tokens, rows = len(plan[1]), len(plan[2])
        height = tokens if case.combine else rows
        inputs = [plan[0], plan[2], *draw(random, case, tokens, rows)]
        inputs += [stored(np.full((height, N), 5, NUMPY[kind]), kind) for kind in case.kinds]
        if case.combine:
            weights = random.normal(size=plan[1].shape).astype(np.float32)
            inputs += [plan[1], weights, random.normal(size=(tokens, N)).astype(np.float32)]
        runs = []
        for artifact in (plain, *artifacts):
            runs.append([stored(np.full((height, N), 77, NUMPY[k]), k) for k in case.kinds])
            call(artifact, *inputs, *runs[-1])
        for sizes, results in zip(tilings, runs[1:], strict=True):
            for expected, actual in zip(runs[0], results, strict=True):
                np.testing.assert_array_equal(actual, expected, f"{routing}, tiles of {sizes}")


def test_gate(compiled, random, tmp_path):
    """Every combination of attributes, three tokens at a time."""
    gates = all_gates(GROUPS)[::7]
    text = gates_text(gates)
    logits, bias, mix = draw_gate_inputs(random, 12)
    like = np.zeros((len(logits), 3), np.float32)
    runs = []
    for source in (text, tile(text, "moe.gate", (3,), tmp_path)):
        runs.append([np.full(like.shape, -99, kind)
                     for _ in gates for kind in (np.float32, np.int32)])
        call(compiled(source, "gates", *GENERAL), logits, bias, mix, like, *runs[-1])
    for expected, actual in zip(*runs, strict=True):
        np.testing.assert_array_equal(actual, expected)


COMBINE = """
func.func @op(%rows: tensor<?x9xbf16>, %slots: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
              %base: tensor<?x9xf32>, %init: tensor<?x9xbf16>) -> tensor<?x9xbf16> {
  %y = moe.combine rows(%rows : tensor<?x9xbf16>) slots(%slots : tensor<?x2xi32>)
      weights(%weights : tensor<?x2xf32>) base(%base : tensor<?x9xf32>)
      outs(%init : tensor<?x9xbf16>)
  return %y : tensor<?x9xbf16>
}
"""


@pytest.mark.parametrize("sizes", [(4, 0), (0, 4), (4, 2)])
def test_combine(sizes, compiled, random, tmp_path):
    """By tokens, by columns and by both."""
    artifacts = [compiled(source, "op", *GENERAL)
                 for source in (COMBINE, tile(COMBINE, "moe.combine", sizes, tmp_path))]
    for routing in ROUTINGS:
        _, slots, source = make_plan(random, routing)
        tokens = len(slots)
        rows, base = random.normal(size=(len(source), N)), random.normal(size=(tokens, N))
        inputs = [stored(rows, "bf16"), slots, random.normal(size=slots.shape).astype(np.float32),
                  base.astype(np.float32), stored(np.zeros((tokens, N)), "bf16")]
        expected, actual = (stored(np.full((tokens, N), 77.0), "bf16") for _ in range(2))
        call(artifacts[0], *inputs, expected)
        call(artifacts[1], *inputs, actual)
        np.testing.assert_array_equal(actual, expected, routing)


VECTORS = """
func.func @op(%offsets: tensor<6xi32>, %source: tensor<?xi32>, %x: tensor<?x70xf32>,
              %w: tensor<5x96x70xf32>, %init: tensor<?x96xf32>) -> tensor<?x96xf32> {
  %y = moe.grouped_matmul offsets(%offsets : tensor<6xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, n, k] : tensor<?x70xf32>, tensor<5x96x70xf32>)
      outs(%init : tensor<?x96xf32>) {
  ^bb0(%p: f32):
    moe.yield %p : f32
  }
  return %y : tensor<?x96xf32>
}
"""


def test_vector_code(compiled, random, tmp_path):
    """Tiles get the same vector code as the op, with sums in the same order."""
    tiled = tile(VECTORS, "moe.grouped_matmul", (3, 48), tmp_path)
    assert "#moe.cpu_matmul" in opt(tiled, "--moe-select-cpu-strategy=isa=avx2")
    artifacts = [compiled(text, "op", "--lowering=cpu") for text in (VECTORS, tiled)]
    for routing in ROUTINGS:
        offsets, slots, source = make_plan(random, routing)
        x = random.normal(size=(len(slots), 70)).astype(np.float32)
        w = random.normal(size=(5, 96, 70)).astype(np.float32)
        init = np.full((len(source), 96), 5, np.float32)
        expected, actual = np.full_like(init, 77), np.full_like(init, 77)
        call(artifacts[0], offsets, source, x, w, init, expected)
        call(artifacts[1], offsets, source, x, w, init, actual)
        np.testing.assert_array_equal(actual, expected, routing)
