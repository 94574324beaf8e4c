"""Dispatch, expert, combine and whole layers, compiled, against the float64 reference.

Offsets, slots and rows are equal, sums within a bound that is derived where it is used. Gates are
in test_gate_execution.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from execution import UNIT, Array, call, make_compiled, make_random  # noqa: F401
from moe import reference, tensors
from moe.artifact import Artifact, find_compiler
from moe.reference import Renormalize

ROOT = Path(__file__).resolve().parents[2]


# --- dispatch -------------------------------------------------------------------------------------

class Limit(NamedTuple):
    """What of a capacity a moe.dispatch has, under the names of reference.dispatch."""

    capacity: bool = True
    order: str = "token_major"
    priority: bool = False
    tokens_per_group: bool = False

    def text(self) -> str:
        parts = ["capacity(%c)"] if self.capacity else []
        parts += [f"order({self.order})"] if self.order != "token_major" else []
        parts += ["priority(%p : tensor<?x?xf32>)"] if self.priority else []
        parts += ["tokens_per_group(%g)"] if self.tokens_per_group else []
        return " ".join(parts)


LIMITS = [Limit(capacity=False), *(Limit(True, order, priority, grouped)
                                   for order in ("token_major", "choice_major")
                                   for priority in (False, True) for grouped in (False, True))]
_X, _C, _R, _Q = "tensor<?x3xf32>", "tensor<?x?x2xi32>", "tensor<?x3xf32>", "tensor<?x2xi32>"


def dispatches_text() -> str:
    """A function with all LIMITS: ids, payloads x and c, p, (capacity, group), a tensor of E + 1
    elements, destinations of the rows → offsets, slots, rows of x, rows of c."""
    one = f"tensor<?xi32>, tensor<?x?xi32>, {_R}, {_Q}"
    results = ", ".join([one] * len(LIMITS))
    ops = "".join(f"""
  %s{i} = tensor.empty(%t, %k) : tensor<?x?xi32>
  %o{i} = tensor.empty(%e1) : tensor<?xi32>
  %r{i}:4 = moe.dispatch ids(%ids : tensor<?x?xi32>) tokens(%x : {_X}) choices(%ch : {_C})
      {limit.text()} outs(%o{i}, %s{i}, %rx, %rc : {one})""" for i, limit in enumerate(LIMITS))
    values = ", ".join(f"%r{i}#{j}" for i in range(len(LIMITS)) for j in range(4))
    return f"""
func.func @dispatches(%ids: tensor<?x?xi32>, %x: {_X}, %ch: {_C}, %p: tensor<?x?xf32>,
    %limits: tensor<2xi64>, %like: tensor<?xi32>, %rx: {_R}, %rc: {_Q}) -> ({results}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %ids, %c0 : tensor<?x?xi32>
  %k = tensor.dim %ids, %c1 : tensor<?x?xi32>
  %e1 = tensor.dim %like, %c0 : tensor<?xi32>
  %c64 = tensor.extract %limits[%c0] : tensor<2xi64>
  %g64 = tensor.extract %limits[%c1] : tensor<2xi64>
  %c = arith.index_cast %c64 : i64 to index
  %g = arith.index_cast %g64 : i64 to index{ops}
  return {values} : {results}
}}
"""


def run_dispatches(artifact: Artifact, random: np.random.Generator, ids: Array, experts: int,
                   capacity: int, group: int, spare_rows: int) -> None:
    """Calls the function of `dispatches_text` and checks that all results are the reference's."""
    x = random.normal(size=(len(ids), 3)).astype(np.float32)
    c = random.integers(-100, 100, (*ids.shape, 2), np.int32)
    p = random.choice(np.float32([-1, 0, -0.0, 0.5, 2, np.nan, np.inf, -np.inf]), ids.shape)
    fits = np.count_nonzero((ids >= 0) & (ids < experts))
    inits = [np.full((fits + spare_rows, 3), -77, np.float32),
             np.full((fits + spare_rows, 2), -77, np.int32)]
    outputs = [np.full_like(like, -99) for _ in LIMITS
               for like in (np.zeros(experts + 1, np.int32), ids, *inits)]
    call(artifact, ids, x, c, p, np.array([capacity, group]), np.zeros(experts + 1, np.int32),
         *inits, *outputs)
    for i, limit in enumerate(LIMITS):
        offsets, slots, rows = reference.dispatch(
            ids, experts, [x], [c], capacity=capacity if limit.capacity else None,
            order=limit.order, priority=p if limit.priority else None,
            tokens_per_group=group if limit.tokens_per_group else None, inits=inits)
        for what, actual, expected in zip(("offsets", "slots", "x", "c"),
                                          outputs[4 * i:4 * i + 4], (offsets, slots, *rows)):
            np.testing.assert_array_equal(
                actual, expected, f"{what} of {limit}, {capacity=}, {group=}, ids {ids.tolist()}")


# Name, T, k, E, and how ids are drawn.
IDS = [("none", 0, 2, 4), ("one", 1, 1, 4), ("one choice of many", 1, 4, 4), ("random", 13, 2, 5),
       ("random", 9, 1, 7), ("random", 6, 5, 5), ("one expert", 8, 2, 4), ("nowhere", 5, 2, 4),
       ("bounds", 7, 3, 4), ("one expert only", 4, 2, 1)]


def draw_ids(random: np.random.Generator, kind: str, tokens: int, k: int, experts: int) -> Array:
    if kind == "one expert":
        return np.full((tokens, k), 2, np.int32)
    if kind == "nowhere":
        return np.full((tokens, k), -1, np.int32)
    if kind == "bounds":
        odd = np.int32([-1, 0, experts - 1, experts, experts + 1, 2 ** 31 - 1, -2 ** 31])
        return random.choice(odd, (tokens, k))
    return random.integers(0, experts, (tokens, k), np.int32)


@pytest.mark.parametrize("kind,tokens,k,experts", IDS)
def test_dispatches(compiled, random, kind, tokens, k, experts):
    artifact = compiled(dispatches_text(), "dispatches")
    for capacity, group in ((0, 1), (1, 1), (2, 3), (3, 4), (-5, 2), (2 ** 40, 2 ** 40),
                            (1, max(tokens, 1))):
        ids = draw_ids(random, kind, tokens, k, experts)
        for spare_rows in (0, 3):
            run_dispatches(artifact, random, ids, experts, capacity, group, spare_rows)


# --- expert ---------------------------------------------------------------------------------------

EXPERTS_TEXT = """
func.func @experts(%offsets: tensor<?xi32>, %x: tensor<?x3xf32>, %s: tensor<?xf32>,
    %w: tensor<?x3xf32>, %shared: tensor<3xf32>, %rows_init: tensor<?x3xf32>,
    %sums_init: tensor<?x3xf32>, %count_init: tensor<?xi64>)
    -> (tensor<?x3xf32>, tensor<?x3xf32>, tensor<?xi64>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %0:3 = moe.expert offsets(%offsets : tensor<?xi32>)
      rows(%x, %s : tensor<?x3xf32>, tensor<?xf32>) params(%w : tensor<?x3xf32>)
      outs(%rows_init, %sums_init, %count_init : tensor<?x3xf32>, tensor<?x3xf32>, tensor<?xi64>) {
  ^bb0(%expert: index, %xe: tensor<?x3xf32>, %se: tensor<?xf32>, %we: tensor<3xf32>):
    %n = tensor.dim %xe, %c0 : tensor<?x3xf32>
    // Sums over the rows of the expert: the body mixes rows.
    %empty = tensor.empty() : tensor<3xf32>
    %blank = linalg.fill ins(%zero : f32) outs(%empty : tensor<3xf32>) -> tensor<3xf32>
    %sums = linalg.reduce {arith.addf} ins(%xe : tensor<?x3xf32>) outs(%blank : tensor<3xf32>)
        dimensions = [0]
    // sums · s + w · x + shared · expert, in f32.
    %number = arith.index_cast %expert : index to i64
    %e = arith.sitofp %number : i64 to f32
    %init = tensor.empty(%n) : tensor<?x3xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(m, n) -> (n)>, affine_map<(m, n) -> (m)>,
        affine_map<(m, n) -> (n)>, affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (n)>,
        affine_map<(m, n) -> (m, n)>], iterator_types = ["parallel", "parallel"]}
        ins(%sums, %se, %we, %xe, %shared : tensor<3xf32>, tensor<?xf32>, tensor<3xf32>,
            tensor<?x3xf32>, tensor<3xf32>) outs(%init : tensor<?x3xf32>) {
    ^bb0(%a: f32, %b: f32, %c: f32, %d: f32, %f: f32, %out: f32):
      %1 = arith.mulf %a, %b : f32
      %2 = arith.mulf %c, %d : f32
      %3 = arith.mulf %f, %e : f32
      %4 = arith.addf %1, %2 : f32
      %5 = arith.addf %4, %3 : f32
      linalg.yield %5 : f32
    } -> tensor<?x3xf32>
    %rows = arith.index_cast %n : index to i64
    %count = tensor.from_elements %rows : tensor<i64>
    moe.yield %y, %sums, %count : tensor<?x3xf32>, tensor<3xf32>, tensor<i64>
  }
  return %0#0, %0#1, %0#2 : tensor<?x3xf32>, tensor<?x3xf32>, tensor<?xi64>
}
"""


def experts_body(shared: Array):
    """The body of EXPERTS_TEXT."""
    def body(e: int, x: Array, s: Array, w: Array) -> tuple[Array, Array, Array]:
        sums = x.sum(0)
        return sums * s[:, None] + w * x + shared * e, sums, np.int64(len(x))
    return body


# Rows of nobody before, after; empty experts; offsets that go backwards own nothing.
OFFSETS = [[0, 4, 6, 9], [2, 4, 4, 9], [0, 0, 0, 0], [3, 3, 8, 8, 8, 9], [0, 10], [10, 10], [0],
           [0, 5, 5, 5, 5, 5, 10], [4, 2, 7, 7]]


@pytest.mark.parametrize("offsets", OFFSETS, ids=str)
def test_experts(compiled, random, offsets):
    """Small integers, so that f32 is exact: results are equal, whatever the order of sums."""
    def draw(*shape: int) -> Array:
        return random.integers(-8, 9, shape).astype(np.float32)
    offsets = np.int32(offsets)
    x, s, w, shared = draw(10, 3), draw(10), draw(len(offsets) - 1, 3), draw(3)
    inits = [np.full((10, 3), -77, np.float32), np.full((len(offsets) - 1, 3), -77, np.float32),
             np.full(len(offsets) - 1, -77)]
    outputs = [np.full_like(init, -99) for init in inits]
    call(compiled(EXPERTS_TEXT, "experts"), offsets, x, s, w, shared, *inits, *outputs)
    expected = reference.expert(offsets, [x, s], [w], inits, experts_body(shared))
    for what, actual, wanted in zip(("rows", "sums", "counts"), outputs, expected):
        np.testing.assert_array_equal(actual, wanted, what)


# --- combine --------------------------------------------------------------------------------------

def combines_text(kind: str) -> str:
    """rows, slots, weights, base → without base, with base, in f32, all from rows of `kind`."""
    rows = y = f"tensor<?x5x{kind}>"
    ops = f"rows(%rows : {rows}) slots(%slots : tensor<?x?xi32>) weights(%w : tensor<?x?x{kind}>)"
    return f"""
func.func @combines(%rows: {rows}, %slots: tensor<?x?xi32>, %w: tensor<?x?x{kind}>, %base: {y})
    -> ({y}, {y}, tensor<?x5xf32>) {{
  %c0 = arith.constant 0 : index
  %t = tensor.dim %slots, %c0 : tensor<?x?xi32>
  %a = tensor.empty(%t) : {y}
  %b = tensor.empty(%t) : {y}
  %c = tensor.empty(%t) : tensor<?x5xf32>
  %0 = moe.combine {ops} outs(%a : {y})
  %1 = moe.combine {ops} base(%base : {y}) outs(%b : {y})
  %2 = moe.combine {ops} outs(%c : tensor<?x5xf32>)
  return %0, %1, %2 : {y}, {y}, tensor<?x5xf32>
}}
"""


def encode(values: Array, kind: str) -> Array:
    """float32 values as the compiled function takes them."""
    return {"f32": np.float32, "f16": np.float16, "bf16": tensors.bf16_bits}[kind](values)


def decode(stored: Array) -> Array:
    """float64 values of what the compiled function wrote."""
    if stored.dtype == np.uint16:
        stored = tensors.from_bf16_bits(stored)
    return stored.astype(np.float64)


def draw_combine(random: np.random.Generator, kind: str, tokens: int, k: int, num_rows: int
                 ) -> list[Array]:
    """rows, slots, weights, base: a third of the slots is dropped, in all ways, with weights that
    would spoil the sum; rows that nobody owns are NaN."""
    places = random.permutation(max(num_rows, tokens * k))[:tokens * k].reshape(tokens, k)
    odd = random.choice(np.int32([-1, num_rows, 2 ** 31 - 1, -2 ** 31]), (tokens, k))
    dropped = (random.random((tokens, k)) < 1 / 3) | (places >= num_rows)
    slots = np.where(dropped, odd, places).astype(np.int32)
    rows = random.normal(size=(num_rows, 5)).astype(np.float32)
    rows[np.setdiff1d(np.arange(num_rows), slots)] = np.nan
    weights = random.normal(size=(tokens, k)).astype(np.float32)
    weights[dropped] = random.choice(np.float32([np.nan, np.inf]), (tokens, k))[dropped]
    base = random.normal(size=(tokens, 5)).astype(np.float32)
    return [encode(rows, kind), slots, encode(weights, kind), encode(base, kind)]


STORE_UNIT = {"f32": 0.0, "bf16": 2.0 ** -8, "f16": 2.0 ** -11}


def check_combine(kind: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """k fused multiply-adds and an addition in f32, then one rounding to the stored type."""
    rows, slots, weights, base = inputs
    k = slots.shape[1]
    with np.errstate(invalid="ignore"):
        plain = reference.combine(decode(rows), slots, decode(weights))
        most = reference.combine(np.abs(decode(rows)), slots, np.abs(decode(weights)))
    for actual, expected, size, unit in (
            (outputs[0], plain, most, STORE_UNIT[kind]),
            (outputs[1], plain + decode(base), most + np.abs(decode(base)), STORE_UNIT[kind]),
            (outputs[2], plain, most, 0.0)):
        bound = (k + 1) * UNIT * size * (1 + unit) + unit * np.abs(expected) + 2.0 ** -25 * (
            kind == "f16")
        assert (np.abs(decode(actual) - expected) <= bound).all(), (actual, expected)


@pytest.mark.parametrize("kind", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("tokens,k,num_rows", [(0, 2, 3), (1, 1, 1), (7, 3, 21), (6, 4, 40),
                                               (5, 2, 4), (4, 8, 0)])
def test_combines(compiled, random, kind, tokens, k, num_rows):
    artifact = compiled(combines_text(kind), "combines")
    inputs = draw_combine(random, kind, tokens, k, num_rows)

    def run(*arrays: Array) -> list[Array]:
        outputs = [encode(np.full((tokens, 5), -99, np.float32), to) for to in (kind, kind, "f32")]
        call(artifact, *arrays, *outputs)
        return outputs
    outputs = run(*inputs)
    check_combine(kind, inputs, outputs)

    # The order of the choices of a token changes no bit.
    order = random.permuted(np.tile(np.arange(k), (tokens, 1)), axis=1)
    slots, weights = (np.take_along_axis(a, order, 1) for a in inputs[1:3])
    for again, before in zip(run(inputs[0], slots, weights, inputs[3]), outputs):
        assert again.tobytes() == before.tobytes()
    # A token without any row is +0.
    nobody = ~((inputs[1] >= 0) & (inputs[1] < num_rows)).any(1)
    assert not outputs[0][nobody].tobytes().strip(b"\0")


# --- results that have something in common --------------------------------------------------------

SHARING = {
    # Two results that begin with the same zeros.
    "zeros": """
  %0 = linalg.matmul ins(%a, %b : !m, !m) outs(%z : !m) -> !m
  %1 = linalg.matmul ins(%a, %c : !m, !m) outs(%z : !m) -> !m""",
    # A result, and what goes on from it.
    "on": """
  %1 = linalg.matmul ins(%a, %b : !m, !m) outs(%z : !m) -> !m
  %0 = linalg.matmul ins(%a, %c : !m, !m) outs(%1 : !m) -> !m""",
    "back": """
  %0 = linalg.matmul ins(%a, %b : !m, !m) outs(%z : !m) -> !m
  %1 = linalg.matmul ins(%a, %c : !m, !m) outs(%0 : !m) -> !m""",
    # The same in a loop, whose results change places.
    "loop": """
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %0, %1 = scf.for %i = %c0 to %c3 step %c1 iter_args(%p = %z, %q = %a) -> (!m, !m) {
    %r = linalg.matmul ins(%a, %b : !m, !m) outs(%p : !m) -> !m
    scf.yield %q, %r : !m, !m
  }""",
    # One of two, as the data says.
    "choice": """
  %f = linalg.matmul ins(%a, %b : !m, !m) outs(%z : !m) -> !m
  %g = linalg.matmul ins(%a, %c : !m, !m) outs(%z : !m) -> !m
  %x = tensor.extract %a[%c0, %c0] : !m
  %less = arith.cmpf olt, %x, %zero : f32
  %0 = arith.select %less, %f, %g : !m
  %1 = linalg.add ins(%f, %g : !m, !m) outs(%f : !m) -> !m""",
    # Twice the same.
    "same": """
  %0 = linalg.matmul ins(%a, %b : !m, !m) outs(%z : !m) -> !m
  %1 = linalg.matmul ins(%a, %b : !m, !m) outs(%z : !m) -> !m""",
}


def sharing_text(name: str) -> str:
    return f"""
!m = tensor<?x4xf32>
func.func @sharing(%a: !m, %b: !m, %c: !m) -> (!m, !m) {{
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %a, %c0 : !m
  %e = tensor.empty(%t) : !m
  %z = linalg.fill ins(%zero : f32) outs(%e : !m) -> !m{SHARING[name]}
  return %0, %1 : !m, !m
}}
"""


def sharing_results(name: str, a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    if name == "loop":
        results = (np.zeros_like(a), a)
        for _ in range(3):
            results = (results[1], results[0] + a @ b)
        return results
    ab, ac = a @ b, a @ c
    return {"zeros": (ab, ac), "on": (ab + ac, ab), "back": (ab, ab + ac), "same": (ab, ab),
            "choice": (ab if a[0, 0] < 0 else ac, ab + ac)}[name]


@pytest.mark.parametrize("name", SHARING)
def test_results_that_share_a_beginning(compiled, random, name):
    """Each is in its own memory at the end, wherever it was computed."""
    artifact = compiled(sharing_text(name), "sharing")
    for _ in range(4):
        a, b, c = random.integers(-4, 5, (3, 4, 4)).astype(np.float32)
        outputs = [np.full_like(a, np.nan), np.full_like(a, np.nan)]
        call(artifact, a, b, c, *outputs)
        for actual, expected in zip(outputs, sharing_results(name, a, b, c)):
            np.testing.assert_array_equal(actual, expected)


# --- whole layers, by moe-run ---------------------------------------------------------------------

def moe_run(*arguments: str | Path) -> str:
    """What moe-run prints; fails with what it says."""
    command = [find_compiler().with_name("moe-run"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}\n{done.stdout}"
    return done.stdout


def row_error(y: Array, expected: Array) -> Array:
    """max|y − ref| / max|ref| of every row."""
    return np.abs(y - expected).max(1) / np.abs(expected).max(1)


@pytest.mark.parametrize("tokens,experts", [(1, 2), (40, 5), (7, 16)])
def test_layer_in_f32(tmp_path, random, tokens, experts):
    """The layer of moe-run's own tests, from a checkpoint with a tensor an expert."""
    model = {"gate.weight": random.normal(size=(experts, 8))}
    for e in range(experts):
        for name, shape in (("gate", (6, 8)), ("up", (6, 8)), ("down", (8, 6))):
            model[f"experts.{e}.{name}_proj.weight"] = random.normal(0, 0.4, shape)
    model = {name: value.astype(np.float32) for name, value in model.items()}
    x = random.normal(size=(tokens, 8)).astype(np.float32)
    tensors.save(tmp_path / "model.safetensors", model)
    np.save(tmp_path / "x.npy", x)
    moe_run(ROOT / "test/Tools/run/Inputs/layer.mlir", "--weights", tmp_path, "--input",
            tmp_path / "x.npy", "--output", tmp_path / "out.safetensors", "--check")
    actual, _ = tensors.load(tmp_path / "out.safetensors")

    logits = x @ np.float64(model["gate.weight"]).T
    weights, ids = reference.gate(logits, 2, renormalize=Renormalize())
    offsets, slots, (rows,) = reference.dispatch(ids, experts, [np.float64(x)])

    def swiglu(e: int, xe: Array) -> list[Array]:
        gate, up, down = (np.float64(model[f"experts.{e}.{name}_proj.weight"])
                          for name in ("gate", "up", "down"))
        inner = xe @ gate.T
        return [inner / (1 + np.exp(-inner)) * (xe @ up.T) @ down.T]
    (done,) = reference.expert(offsets, [rows], [], [np.zeros_like(rows)], swiglu)
    np.testing.assert_array_equal(actual["ids"], ids)
    assert row_error(actual["y"], reference.combine(done, slots, weights)).max() < 1e-5


@pytest.mark.parametrize("layer", [0, 1])
def test_layer_in_bf16(tmp_path, layer):
    """A trained layer, imported with every rounding of its model, against transformers."""
    model = ROOT / "test/Models/bytes"
    importer = find_compiler().with_name("moe-import")
    subprocess.run([importer, model, "--layer", str(layer), "--routing", "-o", tmp_path],
                   check=True, capture_output=True)
    held = model / f"references/layer_{layer}.safetensors"
    moe_run(tmp_path / f"layer_{layer}.mlir", "--weights", model, "--input", f"x={held}:hidden",
            "--output", tmp_path / "out.safetensors", "--check")
    actual, (expected, _) = tensors.load(tmp_path / "out.safetensors")[0], tensors.load(held)
    same = (np.sort(actual["ids"], 1) == np.sort(expected["ids"], 1)).all(1)
    # Only where two logits tie in the model's rounding may the models choose otherwise.
    ranked = -np.sort(-expected["router_logits"], 1)
    tied = ranked[:, 1] == ranked[:, 2]
    assert (same | tied).all() and same.mean() > 0.95
    # One rounding at the end, and the roundings on the way that fall the other way: 4 units.
    assert row_error(actual["y"][same], expected["y"][same]).max() < 2.0 ** -6
