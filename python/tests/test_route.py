"""moe.route, compiled, against the float64 reference, and against the ops that it stands for.

Inputs are small integers times powers of two, so that the router's sums are exact and ids must be
equal; weights are a few roundings away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from execution import UNIT, Array, call, make_compiled, make_random  # noqa: F401
from moe import reference
from moe.reference import Groups, Renormalize
from moe.tensors import bf16_bits, from_bf16_bits, round_bf16

LENGTH, EXPERTS = 24, 12
ROUND = """
  %b = arith.truncf %sum : f32 to bf16
  %logit = arith.extf %b : bf16 to f32
  moe.yield %logit : f32"""


class Route(NamedTuple):
    """One moe.route: its text, and the same in numpy (`bias`, `scale`: E; `tilt`: T×k)."""

    options: str = "score(softmax)"
    gate: dict = {}
    k: int = 3
    experts: int = EXPERTS
    operands: str = ""
    logits: tuple[str, str] | None = None  # arguments after the sum, operations
    weights: tuple[str, str] | None = None
    logits_in_numpy: Callable | None = None  # (sums, inputs) → logits [, mix]
    weights_in_numpy: Callable | None = None  # (weights, ids, inputs) → weights
    bias: bool = False
    id_map: bool = False
    capacity: dict | None = None
    stored: str = "f32"
    transposed: bool = False
    element: str = "f32"


ROUTES = {
    "plain": Route(),
    "transposed router, narrow elements": Route(element="bf16", transposed=True),
    "renormalized, scaled": Route("score(softmax) renormalize<> scale(2.500000e+00)",
                                  {"renormalize": Renormalize(), "scale": 2.5}),
    "rounded logits": Route(element="bf16", logits=("", ROUND),
                            logits_in_numpy=lambda sums, _: round_bf16(np.float32(sums))),
    "grouped with a selection bias": Route(
        "score(sigmoid) groups<count = 4, keep = 2, score = top2_sum> "
        "renormalize<eps = 1.0e-20 : f32> scale(2.500000e+00)",
        {"groups": Groups(4, 2, "top2_sum"), "renormalize": Renormalize(1e-20), "scale": 2.5},
        bias=True),
    "router bias, softmax of the selected": Route(
        "score(softmax) scope(selected)", {"scope": "selected"},
        operands="extras(%bias[e] : tensor<12xf32>)",
        logits=("%eb: f32", """
  %logit = arith.addf %sum, %eb : f32
  moe.yield %logit : f32"""), logits_in_numpy=lambda sums, inputs: sums + inputs["bias"]),
    "per-expert scale, rounded": Route(
        operands="weight_extras(%scale[e], %tilt[t, j] : tensor<12xf32>, tensor<?x3xf32>)",
        weights=("%es: f32, %et: f32", """
  %scaled = arith.mulf %weight, %es : f32
  %tilted = arith.addf %scaled, %et : f32
  %stored = arith.truncf %tilted : f32 to bf16
  moe.yield %stored : bf16"""),
        weights_in_numpy=lambda weights, ids, inputs: weights * inputs["scale"][ids]
        + inputs["tilt"], stored="bf16"),
    "mix from the logits": Route(
        "score(none)", {}, logits=("", """
  %half = arith.constant 5.0e-01 : f32
  %mix = arith.mulf %sum, %half : f32
  moe.yield %sum, %mix : f32, f32"""), logits_in_numpy=lambda sums, _: (sums, sums / 2)),
    "identity experts and a map": Route(experts=9, operands="id_map(%map : tensor<12xi32>)",
                                        id_map=True),
    "capacity": Route(operands="capacity(%c3) order(choice_major) tokens_per_group(%c7)",
                      capacity={"capacity": 3, "order": "choice_major", "tokens_per_group": 7}),
    "one choice of all": Route(k=1),
    "all of them": Route(k=EXPERTS),
}


def text(route: Route) -> str:
    """A function of x, router, bias, scale, tilt, id map → the five results of the op."""
    element, k = route.element, route.k
    router = f"tensor<{'24x12' if route.transposed else '12x24'}x{element}>"
    ids, weights = f"tensor<?x{k}xi32>", f"tensor<?x{k}x{route.stored}>"
    offsets = f"tensor<{route.experts + 1}xi32>"
    results = f"{weights}, {ids}, {offsets}, {ids}, tensor<?xi32>"
    regions = ""
    for name, region in ("logits", route.logits), ("weights", route.weights):
        if region:
            first = "%sum: f32" if name == "logits" else "%weight: f32"
            args = ", ".join(filter(None, (first, region[0])))
            regions += f" {name} {{\n^bb0({args}):{region[1]}\n}}"
    operands = route.operands
    if route.bias:
        operands = f"bias(%bias : tensor<12xf32>) {operands}"
    index = "[k, e]" if route.transposed else "[e, k]"
    return f"""
func.func @route(%x: tensor<?x24x{element}>, %router: {router}, %bias: tensor<12xf32>,
    %scale: tensor<12xf32>, %tilt: tensor<?x3xf32>, %map: tensor<12xi32>) -> ({results}) {{
  %c0 = arith.constant 0 : index
  %c3 = arith.constant 3 : index
  %c7 = arith.constant 7 : index
  %k = arith.constant {k} : index
  %t = tensor.dim %x, %c0 : tensor<?x24x{element}>
  %m = arith.muli %t, %k : index
  %w = tensor.empty(%t) : {weights}
  %i = tensor.empty(%t) : {ids}
  %o = tensor.empty() : {offsets}
  %s = tensor.empty(%t) : {ids}
  %r = tensor.empty(%m) : tensor<?xi32>
  %0:5 = moe.route {route.options}
      router(%x[t, k] * %router{index} : tensor<?x24x{element}>, {router}) {operands}
      outs(%w, %i, %o, %s, %r : {results}){regions}
  return %0#0, %0#1, %0#2, %0#3, %0#4 : {results}
}}
"""


def draw(random: np.random.Generator, tokens: int) -> dict[str, Array]:
    """Inputs whose sums are exact; most logits differ, some tie."""
    return {
        "x": np.float32(random.integers(-8, 9, (tokens, LENGTH)) / 8),
        "router": np.float32(random.integers(-8, 9, (EXPERTS, LENGTH)) / 16),
        "bias": np.float32(random.integers(-8, 9, EXPERTS) / 32),
        "scale": np.float32(random.integers(1, 9, EXPERTS) / 4),
        "tilt": np.float32(random.integers(-8, 9, (tokens, 3)) / 64),
        "map": random.integers(-2, 11, EXPERTS, dtype=np.int32),
    }


def expected(route: Route, inputs: dict[str, Array]) -> tuple[Array, ...]:
    """The op in float64."""
    options = dict(route.gate)
    if route.bias:
        options["bias"] = inputs["bias"]
    logits, weights = route.logits_in_numpy, route.weights_in_numpy
    return reference.route(
        inputs["x"], inputs["router"], route.k, route.options.split("(")[1].split(")")[0],
        experts=route.experts, logits=logits and (lambda sums: logits(sums, inputs)),
        weights=weights and (lambda values, ids: weights(values, ids, inputs)),
        id_map=inputs["map"] if route.id_map else None, limits=route.capacity, **options)


def run(artifact, route: Route, inputs: dict[str, Array]) -> list[Array]:
    """The results of the compiled op; weights as f32."""
    shape = (len(inputs["x"]), route.k)
    weights = np.full(shape, 99, np.float32 if route.stored == "f32" else np.uint16)
    outputs = [weights, np.full(shape, -99, np.int32), np.full(route.experts + 1, -99, np.int32),
               np.full(shape, -99, np.int32), np.full(shape[0] * route.k, -99, np.int32)]
    router = inputs["router"].T if route.transposed else inputs["router"]
    narrow = bf16_bits if route.element == "bf16" else np.ascontiguousarray
    call(artifact, narrow(inputs["x"]), narrow(np.ascontiguousarray(router)),
         *(inputs[name] for name in ("bias", "scale", "tilt", "map")), *outputs)
    if route.stored == "bf16":
        outputs[0] = from_bf16_bits(weights)
    return outputs


@pytest.mark.parametrize("name", ROUTES)
def test_route(compiled, random, name):
    """Ids, offsets, slots and source are equal, weights a few roundings away."""
    route = ROUTES[name]
    artifact = compiled(text(route), "route")
    for tokens in (0, 1, 40):
        inputs = draw(random, tokens)
        weights, *plan = expected(route, inputs)
        actual, *actual_plan = run(artifact, route, inputs)
        for what, a, b in zip(("ids", "offsets", "slots", "source"), actual_plan, plan):
            np.testing.assert_array_equal(a, b, f"{name}: {what}")
        unit = UNIT if route.stored == "f32" else 2.0 ** -8
        np.testing.assert_allclose(actual, weights, rtol=32 * UNIT + 2 * unit, atol=4 * unit)


def test_route_is_what_it_stands_for(compiled, random):
    """Bit for bit: a matmul, a scalar function, moe.gate and moe.plan."""
    apart = """
func.func @apart(%x: tensor<?x24xbf16>, %router: tensor<12x24xbf16>, %bias: tensor<12xf32>)
    -> (tensor<?x3xf32>, tensor<?x3xi32>, tensor<13xi32>, tensor<?x3xi32>, tensor<?xi32>) {
  %c0 = arith.constant 0 : index
  %k = arith.constant 3 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x24xbf16>
  %m = arith.muli %t, %k : index
  %w = tensor.empty(%t) : tensor<?x3xf32>
  %i = tensor.empty(%t) : tensor<?x3xi32>
  %o = tensor.empty() : tensor<13xi32>
  %r = tensor.empty(%m) : tensor<?xi32>
  %le = tensor.empty(%t) : tensor<?x12xf32>
  %lz = linalg.fill ins(%zero : f32) outs(%le : tensor<?x12xf32>) -> tensor<?x12xf32>
  %sums = linalg.matmul indexing_maps = [affine_map<(t, e, k) -> (t, k)>,
      affine_map<(t, e, k) -> (e, k)>, affine_map<(t, e, k) -> (t, e)>]
      ins(%x, %router : tensor<?x24xbf16>, tensor<12x24xbf16>)
      outs(%lz : tensor<?x12xf32>) -> tensor<?x12xf32>
  %narrow = arith.truncf %sums : tensor<?x12xf32> to tensor<?x12xbf16>
  %logits = arith.extf %narrow : tensor<?x12xbf16> to tensor<?x12xf32>
  %weights, %ids = moe.gate score(sigmoid) renormalize<> ins(%logits : tensor<?x12xf32>)
      bias(%bias : tensor<12xf32>) outs(%w, %i : tensor<?x3xf32>, tensor<?x3xi32>)
  %p:3 = moe.plan ids(%ids : tensor<?x3xi32>)
      outs(%o, %i, %r : tensor<13xi32>, tensor<?x3xi32>, tensor<?xi32>)
  return %weights, %ids, %p#0, %p#1, %p#2
      : tensor<?x3xf32>, tensor<?x3xi32>, tensor<13xi32>, tensor<?x3xi32>, tensor<?xi32>
}
"""
    route = Route("score(sigmoid) renormalize<>", element="bf16", logits=("", ROUND), bias=True)
    inputs = draw(random, 33)
    inputs["x"] = np.float32(random.normal(size=(33, LENGTH)))  # Sums that are rounded.
    together = run(compiled(text(route), "route"), route, inputs)
    outputs = [np.full_like(result, -99) for result in together]
    call(compiled(apart, "apart"), bf16_bits(inputs["x"]), bf16_bits(inputs["router"]),
         inputs["bias"], *outputs)
    for a, b in zip(together, outputs):
        np.testing.assert_array_equal(a, b)
