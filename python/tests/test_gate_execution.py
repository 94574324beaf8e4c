"""moe.gate, compiled, against the float64 reference: every attribute, every edge.

A function holds one gate with each combination of attributes, so that one compilation serves many
inputs. Ids are equal, weights are equal within a few units in the last place.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from execution import UNIT, Array, call, make_compiled, make_random  # noqa: F401
from moe import reference
from moe.artifact import Artifact
from moe.reference import Groups, Renormalize


class Gate(NamedTuple):
    """The attributes of a moe.gate, under the names of reference.gate."""

    score: str = "softmax"
    scope: str = "all"
    select_on: str = "scores"
    bias: bool = False
    mix: bool = False
    groups: Groups | None = None
    renormalize: Renormalize | None = None
    scale: float = 1.0

    def text(self, i: int) -> str:
        """The op as number `i` of a function, and its destinations."""
        options = [f"score({self.score})"]
        if self.select_on != "scores":
            options.append(f"select_on({self.select_on})")
        if self.scope != "all":
            options.append(f"scope({self.scope})")
        if g := self.groups:
            options.append(f"groups<count = {g.count}, keep = {g.keep}, score = {g.score}, "
                           f"mask = {g.mask}>")
        if r := self.renormalize:
            eps = f"eps = {r.eps!r} : f32, " if r.eps else ""
            options.append(f"renormalize<{eps}mode = {r.mode}>")
        if self.scale != 1:
            options.append(f"scale({self.scale:.6e})")
        operands = "ins(%logits : tensor<?x?xf32>)"
        operands += " bias(%bias : tensor<?xf32>)" if self.bias else ""
        operands += " mix(%mix : tensor<?x?xf32>)" if self.mix else ""
        return f"""
  %a{i} = tensor.empty(%t, %k) : tensor<?x?xf32>
  %b{i} = tensor.empty(%t, %k) : tensor<?x?xi32>
  %w{i}, %i{i} = moe.gate {" ".join(options)} {operands}
      outs(%a{i}, %b{i} : tensor<?x?xf32>, tensor<?x?xi32>)"""


GROUPS = [None, *(Groups(4, 2, score, mask) for score in ("max", "top2_sum")
                  for mask in ("neg_inf", "zero"))]
RENORMALIZE = [None, Renormalize(), Renormalize(0.25), Renormalize(0.25, "clamp")]
SCORES = [("softmax", "all"), ("softmax", "selected"), ("sigmoid", "all"), ("sqrt_softplus", "all"),
          ("none", "all")]


def all_gates(groups: Sequence[Groups | None]) -> list[Gate]:
    """Each combination of score, scope, key, bias, mix and groups; renormalization and scale, which
    come after all of them, in turns."""
    turns = itertools.cycle(itertools.product(RENORMALIZE, (1.0, 2.5)))
    return [Gate(score, scope, select_on, bias, mix, group, *next(turns))
            for group in groups for bias in (False, True) for mix in (False, True)
            for select_on in ("scores", "logits") for score, scope in SCORES]


def gates_text(gates: Sequence[Gate]) -> str:
    """A function with all `gates`: logits, bias, mix, a T×k tensor that tells k → weights, ids."""
    results = ", ".join(["tensor<?x?xf32>, tensor<?x?xi32>"] * len(gates))
    values = ", ".join(f"%w{i}, %i{i}" for i in range(len(gates)))
    return f"""
func.func @gates(%logits: tensor<?x?xf32>, %bias: tensor<?xf32>, %mix: tensor<?x?xf32>,
    %like: tensor<?x?xf32>) -> ({results}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %logits, %c0 : tensor<?x?xf32>
  %k = tensor.dim %like, %c1 : tensor<?x?xf32>{"".join(g.text(i) for i, g in enumerate(gates))}
  return {values} : {results}
}}
"""


def edge_rows(random: np.random.Generator, experts: int) -> Array:
    """Rows in which experts tie, or are infinite or NaN, and rows of random numbers.

    Finite values stay below 8, where f32 still tells any two scores apart that f64 tells apart.
    """
    inf, nan = np.inf, np.nan
    rows = [random.normal(0, 2, experts).clip(-8, 8) for _ in range(10)]
    rows += [random.integers(-2, 3, experts) / 2 for _ in range(6)]  # Ties.
    rows += [np.full(experts, value) for value in (0, -1.5, inf, -inf, nan)]
    for odd in ([inf], [nan], [-inf], [inf, inf], [inf, -inf, nan], [nan] * (experts - 1),
                [-inf] * (experts - 1), [inf] * (experts - 1), [-inf, nan] * (experts // 2)):
        row = random.normal(size=experts)
        row[random.permutation(experts)[:len(odd)]] = odd[:experts]
        rows.append(row)
    return np.float32(rows).reshape(-1, experts)


def check_gate(gate: Gate, actual: tuple[Array, Array], logits: Array, bias: Array, mix: Array
               ) -> None:
    """Equal ids, and weights that are a few roundings away."""
    k = actual[1].shape[1]
    options = {**gate._asdict(), "bias": bias if gate.bias else None,
               "mix": mix if gate.mix else None}
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        weights, ids = reference.gate(logits, k, **options)
        plain, _ = reference.gate(logits, k, **{**options, "renormalize": None, "scale": 1.0})
    np.testing.assert_array_equal(actual[1], ids, str(gate))
    # Dividing by a sum that cancels multiplies what was rounded before.
    growth = np.ones((len(logits), 1))
    if rule := gate.renormalize:
        with np.errstate(all="ignore"):
            total = plain.sum(1, keepdims=True)
            total = total + rule.eps if rule.mode == "add" else np.maximum(total, rule.eps)
            growth = 1 + np.abs(plain).sum(1, keepdims=True) / np.abs(total)
    with np.errstate(invalid="ignore"):
        bound = 16 * UNIT * growth * np.abs(weights) + 2.0 ** -149
        finite = np.isfinite(weights)
        far = np.abs(actual[0] - weights)[finite] > bound[finite]
    assert not far.any(), f"{gate}: {actual[0]} is not {weights}"
    np.testing.assert_array_equal(actual[0][~finite], weights[~finite], str(gate))


def run_gates(artifact: Artifact, gates: Sequence[Gate], logits: Array, bias: Array, mix: Array,
              k: int) -> None:
    """Calls the function of `gates_text` and checks all results."""
    shape = (len(logits), k)
    outputs = [np.full(shape, -99, kind) for _ in gates for kind in (np.float32, np.int32)]
    call(artifact, logits, bias, mix, np.zeros(shape, np.float32), *outputs)
    for gate, actual in zip(gates, zip(outputs[::2], outputs[1::2])):
        check_gate(gate, actual, logits, bias, mix)


def draw_gate_inputs(random: np.random.Generator, experts: int) -> tuple[Array, Array, Array]:
    """logits, bias, mix."""
    logits, mix = edge_rows(random, experts), edge_rows(random, experts)
    bias = (random.integers(-8, 9, experts) / 32).astype(np.float32)
    return logits, bias, mix[random.permutation(len(mix))]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_gates_with_groups(compiled, random, k):
    """12 experts in 4 groups of which 2 are kept, so that 6 can be chosen."""
    gates = all_gates(GROUPS[1:])
    artifact = compiled(gates_text(gates), "gates")
    run_gates(artifact, gates, *draw_gate_inputs(random, 12), k)


@pytest.mark.parametrize("experts,k", [(1, 1), (7, 1), (7, 3), (7, 7), (16, 2), (33, 33), (64, 8)])
def test_gates_without_groups(compiled, random, experts, k):
    """One expert, all of them, and numbers that no vector's width divides."""
    gates = all_gates([None])
    artifact = compiled(gates_text(gates), "gates")
    logits, bias, mix = draw_gate_inputs(random, experts)
    run_gates(artifact, gates, logits, bias, mix, k)
    run_gates(artifact, gates, logits[:1], bias, mix[:1], k)
    run_gates(artifact, gates, logits[:0], bias, mix[:0], k)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_gates_with_odd_bias(compiled, random, odd):
    """A NaN of score + bias counts as −inf, and so does one of the score of a group."""
    for groups, experts in ((GROUPS[1:], 12), ([None], 7)):
        gates = all_gates(groups)
        logits, bias, mix = draw_gate_inputs(random, experts)
        bias[random.permutation(experts)[:3]] = odd
        run_gates(compiled(gates_text(gates), "gates"), gates, logits, bias, mix, 3)


def test_gates_optimized(compiled, random):
    """Optimization changes no selection, and no weight at all: there is one recipe."""
    everything = all_gates(GROUPS)
    gates = [everything[i] for i in random.permutation(len(everything))[:12]]
    logits, bias, mix = draw_gate_inputs(random, 12)
    like = np.zeros((len(logits), 4), np.float32)
    runs = []
    for level in ("-O0", "-O3"):
        outputs = [np.full(like.shape, -99, kind) for _ in gates for kind in (np.float32, np.int32)]
        artifact = compiled(gates_text(gates), "gates", level)
        call(artifact, logits, bias, mix, like, *outputs)
        runs.append(outputs)
    for gate, *pair in zip((g for g in gates for _ in range(2)), *runs):
        np.testing.assert_array_equal(pair[0], pair[1], str(gate))
    for gate, actual in zip(gates, zip(runs[1][::2], runs[1][1::2])):
        check_gate(gate, actual, logits, bias, mix)


def test_equal_logits_have_equal_weights(compiled):
    """Bit for bit, at every place of the sum's tree."""
    gates = [Gate(score, scope) for score, scope in SCORES]
    experts = 19
    logits = np.full((3, experts), 0.3, np.float32)
    outputs = [np.full(logits.shape, -99, kind) for _ in gates for kind in (np.float32, np.int32)]
    call(compiled(gates_text(gates), "gates"), logits, np.zeros(experts, np.float32),
         np.zeros_like(logits), logits, *outputs)
    for weights, ids in zip(outputs[::2], outputs[1::2]):
        assert (weights == weights[0, 0]).all()
        np.testing.assert_array_equal(ids, np.tile(np.arange(experts), (3, 1)))
