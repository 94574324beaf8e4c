"""Weights and inputs that every peer gets, and what a layer must make of them, in float64.

All values can be represented in bf16, so peers of either element type see the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cases import Case

Array = np.ndarray
CHECKED = 3  # tokens that are compared with float64
TOLERANCE = {"f32": 1e-4, "bf16": 3e-2}  # of max|y - ref| / max|ref| of a token


def bf16_bits(values: Array) -> Array:
    """The bit patterns of f32 values that bf16 can represent."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)


def representable(values: Array) -> Array:
    """f32 values, each rounded (to nearest, ties to even) to one that bf16 can represent."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


class Weights(NamedTuple):
    """As checkpoints have them, out×in: f32, or bit patterns of bf16 as uint16."""

    dtype: str
    router: Array  # E×H
    gate: Array  # E×I×H
    up: Array  # E×I×H
    down: Array  # E×H×I


def make_weights(case: Case, dtype: str, seed: int = 0) -> Weights:
    """Normal values of deviation 0.02. Experts differ, but share one pool of random numbers."""
    if case.body != "swiglu":
        raise NotImplementedError(f"case {case.name}: there are no weights and no reference for "
                                  f"experts of the kind {case.body!r} yet; choose another case")
    h, i, e = case.hidden, case.inner, case.experts
    pool = representable(np.random.default_rng(seed).standard_normal((1 << 20) + 1) * 0.02)
    pool = bf16_bits(pool) if dtype == "bf16" else pool
    repeated = np.resize(pool, i * h + pool.size)  # an odd period: no two rows of a matrix agree
    at = iter(np.random.default_rng(seed + 1).integers(pool.size, size=3 * e))

    def stack(rows: int, columns: int) -> Array:
        result = np.empty((e, rows, columns), repeated.dtype)
        for expert in result:
            start = next(at)
            expert.reshape(-1)[:] = repeated[start:start + i * h]
        return result
    router = representable(np.random.default_rng(seed + 2).standard_normal((e, h)) * 0.02)
    router = bf16_bits(router) if dtype == "bf16" else router
    return Weights(dtype, router, stack(i, h), stack(i, h), stack(h, i))


def widen(values: Array) -> Array:
    """Stored weights in float64."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)


def logits(weights: Weights, x: Array) -> Array:
    """T×E."""
    return x.astype(np.float64) @ widen(weights.router).T


def reference(case: Case, weights: Weights, x: Array) -> Array:
    """The layer in float64."""
    scores = logits(weights, x)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    y = np.zeros(x.shape)
    for t, row in enumerate(x.astype(np.float64)):
        chosen = np.argsort(-scores[t], kind="stable")[:case.top_k]
        total = scores[t, chosen].sum() if case.renormalize else 1.0
        for e in chosen:
            g, u = widen(weights.gate[e]) @ row, widen(weights.up[e]) @ row
            y[t] += scores[t, e] / total * (widen(weights.down[e]) @ (g / (1 + np.exp(-g)) * u))
    return y


def decided(case: Case, weights: Weights, x: Array, count: int = CHECKED) -> Array:
    """The tokens whose choice is clearest: rounded logits must not change the experts."""
    scores = -np.sort(-logits(weights, x), axis=1)
    if case.top_k == case.experts:
        return x[:count]
    gap = scores[:, case.top_k - 1] - scores[:, case.top_k]
    return x[np.argsort(-gap)[:count]]


def error(y: Array, expected: Array) -> float:
    """Max over tokens of max|y - ref| / max|ref|; NaN is infinite."""
    per_token = np.abs(y - expected).max(axis=1) / np.abs(expected).max(axis=1)
    return float(np.nan_to_num(per_token, nan=np.inf).max())


def make_inputs(case: Case, weights: Weights, tokens: int, cache_bytes: int,
                most: int = 64) -> tuple[list[Array], list[int]]:
    """Batches that are used in turn, and how many experts each of them meets.

    There are as many as it takes for the experts of a round to exceed four times the last-level
    cache, at least 2 and at most `most` (layers that are small may never exceed it).
    """
    random, batches, met = np.random.default_rng(tokens + 3), [], []
    bytes_each = case.expert_bytes(weights.dtype)
    while len(batches) < 2 or (len(batches) < most and sum(met) * bytes_each < 4 * cache_bytes):
        x = representable(random.standard_normal((tokens, case.hidden)))
        # f32 is enough to count experts.
        scores = x @ widen(weights.router).astype(np.float32).T
        chosen = np.argpartition(-scores, case.top_k - 1, axis=1)[:, :case.top_k]
        batches.append(x)
        met.append(len(np.unique(chosen)))
    return batches, met
