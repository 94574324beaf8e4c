"""Weights and inputs that every program gets.

All values can be represented in bf16, so programs of either element type see the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cases import Case

Array = np.ndarray


def bf16_bits(values: Array) -> Array:
    """The bit patterns of f32 values that bf16 can represent."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)


def representable(values: Array) -> Array:
    """f32 values, each rounded (to nearest, ties to even) to one that bf16 can represent."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def widen(values: Array, kind: type = np.float64) -> Array:
    """Stored values in float64, or in f32."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(kind)


class Expert(NamedTuple):
    """Views of one expert's weights, out×in; None where its body has no such part."""

    up: Array  # I×H
    down: Array  # H×I
    gate: Array | None = None  # I×H
    gate_bias: Array | None = None  # I
    up_bias: Array | None = None  # I
    down_bias: Array | None = None  # H


class Weights(NamedTuple):
    """A layer's tensors by role, as its checkpoint has them: f32, or bits of bf16 as uint16."""

    dtype: str
    tensors: dict[str, Array]

    @property
    def router(self) -> Array:
        """E×H."""
        return self.tensors["router"]

    def expert(self, e: int) -> Expert:
        """The tensors of gpt-oss are in×out and interleaved; those of the others are out×in."""
        at = {role: array[e] for role, array in self.tensors.items()}
        if "gate_up" not in at:
            return Expert(at["up"], at["down"], at.get("gate"))
        both, bias = at["gate_up"].T, at["gate_up_bias"]
        return Expert(both[1::2], at["down"].T, both[0::2], bias[0::2], bias[1::2],
                      at["down_bias"])


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Role → shape, in the layout of the family's checkpoints."""
    h, i, e = case.hidden, case.inner, case.experts
    if case.body == "gpt_oss":
        return {"router": (e, h), "router_bias": (e,), "gate_up": (e, h, 2 * i),
                "gate_up_bias": (e, 2 * i), "down": (e, i, h), "down_bias": (e, h)}
    experts = {"up": (e, i, h), "down": (e, h, i)}
    if case.body == "swiglu":
        experts = {"gate": (e, i, h)} | experts
    return {"router": (e, h)} | ({"bias": (e,)} if case.score == "sigmoid" else {}) | experts


def empty(shape: tuple[int, ...], dtype) -> Array:
    """A tensor at a multiple of 64 bytes, as frameworks allocate them; NumPy's are at 16."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size].view(dtype).reshape(shape)


# Deviations of normal values; those of biases let some of gpt-oss's clamps at 7 take effect, and
# leave the choice of experts to the tokens.
DEVIATION = {"gate_up_bias": 3.0, "down_bias": 1.0, "router_bias": 0.1}
DEFAULT_DEVIATION = 0.02


def make_weights(case: Case, dtype: str, seed: int = 0) -> Weights:
    """Normal values; the matrices of experts share one pool of them, but no two are alike."""
    pool = representable(np.random.default_rng(seed).standard_normal((1 << 20) + 1)
                         * DEFAULT_DEVIATION)
    pool = bf16_bits(pool) if dtype == "bf16" else pool
    largest = 2 * case.inner * case.hidden
    # The period is odd, so that no two rows of a matrix agree.
    repeated = np.resize(pool, largest + pool.size)
    random = np.random.default_rng(seed + 1)
    tensors = {}
    for role, shape in shapes(case).items():
        if len(shape) == 3:
            tensors[role] = empty(shape, pool.dtype)
            for expert, start in zip(tensors[role], random.integers(pool.size, size=shape[0])):
                expert.reshape(-1)[:] = repeated[start:start + expert.size]
            continue
        values = representable(random.standard_normal(shape)
                               * DEVIATION.get(role, DEFAULT_DEVIATION))
        # The bias of sigmoid routers is f32 in checkpoints of any type.
        tensors[role] = bf16_bits(values) if dtype == "bf16" and role != "bias" else values
    return Weights(dtype, tensors)


class Routing(NamedTuple):
    """What a router decides."""

    ids: Array  # T×k, the highest selection score first
    weights: Array  # T×k
    margin: Array  # T: by how much the k-th selection score exceeds the next


def route(case: Case, weights: Weights, x: Array, kind: type = np.float64) -> Routing:
    """The router of the case, in float64 or f32."""
    logits = x.astype(kind) @ widen(weights.router, kind).T
    if "router_bias" in weights.tensors:
        logits += widen(weights.tensors["router_bias"], kind)
    if case.score == "sigmoid":
        scores = 1 / (1 + np.exp(-logits))
        keys = scores + weights.tensors["bias"]
    else:
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        keys = logits
    order = np.argsort(-keys, axis=1, kind="stable")[:, :case.top_k + 1]
    ids = order[:, :case.top_k]
    chosen = np.take_along_axis(scores, ids, axis=1)
    if case.renormalize:
        chosen = chosen / chosen.sum(axis=1, keepdims=True)
    sorted_keys = np.take_along_axis(keys, order, axis=1)
    margin = (sorted_keys[:, -2] - sorted_keys[:, -1] if case.top_k < case.experts
              else np.full(len(x), np.inf))
    return Routing(ids, chosen * case.scale, margin)


def make_inputs(case: Case, weights: Weights, tokens: int, cache_bytes: int,
                first: Array | None = None, most: int = 64) -> tuple[list[Array], list[int]]:
    """Batches that are used in turn, and how many experts each of them meets.

    There are as many as it takes for the experts of a round to exceed four times the last-level
    cache, at least 2 and at most `most` (layers that are small may never exceed it). The first
    batch begins with the tokens of `first`, as many as it has room for.
    """
    random, batches, met = np.random.default_rng(tokens + 3), [], []
    bytes_each = case.expert_bytes(weights.dtype)
    while len(batches) < 2 or (len(batches) < most and sum(met) * bytes_each < 4 * cache_bytes):
        x = representable(random.standard_normal((tokens, case.hidden), np.float32))
        if first is not None and not batches:
            x[:len(first)] = first[:tokens]
        batches.append(x)
        met.append(len(np.unique(route(case, weights, x, np.float32).ids)))
    return batches, met
