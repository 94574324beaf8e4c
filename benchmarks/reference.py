"""What a layer must make of its inputs, in float64, and how far a program may be from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cases import Case
from data import Array, Expert, Weights, representable, route, widen

CHECKED = 3  # tokens that are compared
# Of max|y - ref| / max|ref| of a token. It is the sum of the roundings of a layer that no rule of
# its model forbids: sums of some thousand products in f32; logits, inner values and rows in bf16.
TOLERANCE = {"f32": 1e-4, "bf16": 3e-2}


class Error(NamedTuple):
    """The largest difference of any element: of its token's largest value, and as it is."""

    relative: float
    absolute: float


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def apply_expert(body: str, expert: Expert, x: Array) -> Array:
    """Rows of an expert in float64."""
    up = x @ widen(expert.up).T
    if body == "relu2":
        inner = np.maximum(up, 0) ** 2
    elif body == "swiglu":
        gate = x @ widen(expert.gate).T
        inner = gate * _sigmoid(gate) * up
    elif body == "gpt_oss":
        gate = np.minimum(x @ widen(expert.gate).T + widen(expert.gate_bias), 7)
        up = np.clip(up + widen(expert.up_bias), -7, 7)
        inner = (up + 1) * gate * _sigmoid(1.702 * gate)
    else:
        raise NotImplementedError(f"there is no reference for experts of the kind {body!r}")
    y = inner @ widen(expert.down).T
    return y if expert.down_bias is None else y + widen(expert.down_bias)


def reference(case: Case, weights: Weights, x: Array) -> Array:
    """The layer in float64."""
    ids, scales, _ = route(case, weights, x)
    y, rows = np.zeros(x.shape), x.astype(np.float64)
    for e in np.unique(ids):
        tokens, slots = np.nonzero(ids == e)
        scale = scales[tokens, slots][:, None]
        y[tokens] += scale * apply_expert(case.body, weights.expert(e), rows[tokens])
    return y


def decided_tokens(case: Case, weights: Weights, count: int = CHECKED) -> Array:
    """Tokens whose choice is clear: rounded logits must not change the experts."""
    x = representable(np.random.default_rng(5).standard_normal((64, case.hidden)))
    return x[np.argsort(-route(case, weights, x).margin, kind="stable")[:count]]


def compare(y: Array, expected: Array) -> Error:
    """The largest errors over all tokens; NaN is infinite."""
    difference = np.nan_to_num(np.abs(y - expected), nan=np.inf)
    relative = difference.max(axis=1) / np.abs(expected).max(axis=1)
    return Error(float(relative.max()), float(difference.max()))
