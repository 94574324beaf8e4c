"""moe.gate in vector code against its decomposition: the same bits, whatever the row holds.

Ties, NaN, infinities, zeros of both signs, rows that are not multiples of a vector, and rows whose
elements are strided. test_gate_execution.py checks the decomposition against float64.
"""

from __future__ import annotations

import platform

import numpy as np
import pytest

from execution import Array, call, make_compiled, make_random  # noqa: F401
from moe.reference import Groups
from test_gate_execution import Gate, all_gates

TOKENS = (0, 1, 31, 32, 33, 70)  # A task has 32.
# Experts, choices, groups: one vector and several, whole ones and not, all experts chosen.
SIZES = [(1, 1, None), (5, 5, None), (16, 2, None), (37, 6, None), (64, 8, None), (48, 20, None),
         (12, 3, Groups(4, 2, "max", "neg_inf")), (12, 5, Groups(4, 2, "top2_sum", "zero")),
         (256, 8, Groups(8, 4, "top2_sum", "neg_inf")), (40, 4, Groups(20, 3, "max", "zero"))]
# Strides of the rows, and cpus.
TARGETS = [(1, "native"), (2, "native")]
if platform.machine() == "x86_64":
    TARGETS += [(1, "x86-64-v3"), (1, "x86-64")]


def gate_text(gates: list[Gate], experts: int, k: int, stride: int) -> str:
    """A function: logits (T×E·stride), bias (E·stride), mix → weights, ids of each gate."""
    logits, bias = f"tensor<?x{experts}xf32>", f"tensor<{experts}xf32>"
    wide, wide_bias = (f"tensor<?x{experts * stride}xf32>", f"tensor<{experts * stride}xf32>")
    weights, ids = f"tensor<?x{k}xf32>", f"tensor<?x{k}xi32>"
    body = ""
    for i, gate in enumerate(gates):
        op = gate.text(i).replace("%t, %k", "%t")
        op = op.replace("ins(%logits : tensor<?x?xf32>)", f"ins(%row : {logits})")
        op = op.replace("bias(%bias : tensor<?xf32>)", f"bias(%tilt : {bias})")
        op = op.replace("mix(%mix : tensor<?x?xf32>)", f"mix(%mixed : {logits})")
        body += op.replace("tensor<?x?xf32>", weights).replace("tensor<?x?xi32>", ids)
    results = ", ".join([f"{weights}, {ids}"] * len(gates))
    values = ", ".join(f"%w{i}, %i{i}" for i in range(len(gates)))
    return f"""
func.func @gates(%logits: {wide}, %bias: {wide_bias}, %mix: {wide}) -> ({results}) {{
  %c0 = arith.constant 0 : index
  %t = tensor.dim %logits, %c0 : {wide}
  %row = tensor.extract_slice %logits[0, 0] [%t, {experts}] [1, {stride}] : {wide} to {logits}
  %mixed = tensor.extract_slice %mix[0, 0] [%t, {experts}] [1, {stride}] : {wide} to {logits}
  %tilt = tensor.extract_slice %bias[0] [{experts}] [{stride}] : {wide_bias} to {bias}
  {body}
  return {values} : {results}
}}"""


def hard_rows(random: np.random.Generator, tokens: int, width: int) -> Array:
    """Rows with many ties, and some of what a float can be besides numbers."""
    rows = np.float32(random.integers(-4, 5, (tokens, width)) / 2)
    rows[::2] = random.normal(size=rows[::2].shape)
    special = np.float32([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-42, -1e-42, 88.8, -104])
    hit = random.random(rows.shape) < random.choice([0, 0.1, 0.9], (tokens, 1))
    rows[hit] = random.choice(special, rows.shape)[hit]
    if tokens > 4:
        rows[0], rows[1], rows[2], rows[3] = np.nan, -np.inf, np.inf, -0.0
    return rows


@pytest.mark.parametrize("stride, cpu", TARGETS)
@pytest.mark.parametrize("experts, k, groups", SIZES)
def test_vectors_have_the_bits_of_the_decomposition(experts, k, groups, stride, cpu, compiled,
                                                    random):
    gates = all_gates([groups])
    if (stride, cpu) != (1, "native") or experts > 64:
        gates = gates[::7]
    text = gate_text(gates, experts, k, stride)
    vectors = compiled(text, "gates", "-O0", f"--target-cpu={cpu}")
    loops = compiled(text, "gates", "-O0", "--lowering=general", "--target-cpu=native")
    for tokens in TOKENS:
        inputs = [hard_rows(random, tokens, experts * stride),
                  hard_rows(random, 1, experts * stride)[0],
                  hard_rows(random, tokens, experts * stride)]
        results = []
        for artifact in vectors, loops:
            outputs = [np.full((tokens, k), 7, kind)
                       for _ in gates for kind in (np.float32, np.int32)]
            call(artifact, *inputs, *outputs)
            results.append(outputs)
        for i, gate in enumerate(gates):
            for got, expected in zip(*(r[2 * i:2 * i + 2] for r in results)):
                # A NaN of `mix` stays one, whatever its payload.
                same = (got.view(np.int32) == expected.view(np.int32)) \
                    | (np.isnan(got) & np.isnan(expected))
                assert same.all(), f"{gate}, token {np.argwhere(~same)[0]}: {got[~same][0]!r} " \
                    f"for {expected[~same][0]!r}"
