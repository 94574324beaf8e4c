"""The ops of the dialect in numpy float64: the oracle apart from the IR's own decomposition.

Written to be read beside the ODS (`include/moe/Dialect/MoE/IR/*.td`), not to be fast: plain loops
over tokens and experts. Shapes: T tokens, k choices a token, E experts, M rows, H hidden.
Selections are made on float64 keys by default; `dtype=np.float32` makes them in f32, where keys
that differ by less than an ulp tie as they do in a compiled layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Groups:
    """`count` groups of neighbours, of which the best `keep` may be selected from."""

    count: int
    keep: int
    score: str = "max"  # or "top2_sum"
    mask: str = "neg_inf"  # or "zero": the key of experts outside the kept groups


@dataclass(frozen=True)
class Renormalize:
    """Division of the k weights by their sum s: by s + eps ("add") or max(s, eps) ("clamp")."""

    eps: float = 0.0
    mode: str = "add"


def _nan_to_neg_inf(values: Array) -> Array:
    return np.where(np.isnan(values), -np.inf, values)


def softmax(row: Array) -> Array:
    """Softmax of one row: all 0 below a maximum of −inf, 1/n on n entries of +inf."""
    top = row.max(initial=-np.inf)
    if top == -np.inf:
        return np.zeros_like(row)
    if top == np.inf:
        at_top = row == np.inf
        return at_top / at_top.sum(dtype=row.dtype)
    e = np.exp(row - top)
    return e / e.sum()


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def scores(row: Array, kind: str) -> Array:
    """The scores of one row of logits that holds no NaN."""
    if kind == "softmax":
        return softmax(row)
    if kind == "sigmoid":
        return _sigmoid(row)
    if kind == "sqrt_softplus":
        return np.sqrt(np.logaddexp(0, row).astype(row.dtype))
    if kind == "none":
        return row
    raise ValueError(f"unknown score {kind!r}")


def _best(keys: Array, k: int) -> Array:
    """Places of the k largest keys, descending, ties to the lower place."""
    return np.argsort(-keys, kind="stable")[:k]


def _limit_to_groups(keys: Array, groups: Groups) -> Array:
    if len(keys) % groups.count:
        raise ValueError(f"{groups.count} groups don't divide {len(keys)} experts")
    members = keys.reshape(groups.count, -1)
    if groups.score == "max":
        group_scores = members.max(1)
    else:
        if members.shape[1] < 2:
            raise ValueError("top2_sum needs groups of at least two experts")
        with np.errstate(invalid="ignore"):
            group_scores = _nan_to_neg_inf(np.sort(members, 1)[:, -2:].sum(1))
    kept = np.zeros(groups.count, bool)
    kept[_best(group_scores, groups.keep)] = True
    outside = keys.dtype.type(-np.inf if groups.mask == "neg_inf" else 0)
    return np.where(kept[:, None], members, outside).ravel()


def _renormalized(weights: Array, rule: Renormalize) -> Array:
    total, eps = weights.sum(), weights.dtype.type(rule.eps)
    denominator = total + eps if rule.mode == "add" else np.maximum(total, eps)
    with np.errstate(invalid="ignore"):
        return np.zeros_like(weights) if denominator == 0 else weights / denominator


def gate(logits: Array, k: int, score: str = "softmax", *, bias: Array | None = None,
         mix: Array | None = None, select_on: str = "scores", scope: str = "all",
         groups: Groups | None = None, renormalize: Renormalize | None = None,
         scale: float = 1.0, dtype: type = np.float64) -> tuple[Array, Array]:
    """moe.gate: logits `T×E` [, bias `E`] [, mix `T×E`] → weights `T×k`, ids `T×k` (int32)."""
    logits = _nan_to_neg_inf(np.asarray(logits, dtype))
    tokens, experts = logits.shape
    if not 1 <= k <= experts:
        raise ValueError(f"k = {k} isn't between 1 and {experts} experts")
    if groups and k > experts // groups.count * groups.keep:
        raise ValueError(f"the kept groups hold fewer than k = {k} experts")
    if scope == "selected" and score != "softmax":
        raise ValueError("scope 'selected' needs score 'softmax'")
    weights, ids = np.zeros((tokens, k), dtype), np.zeros((tokens, k), np.int32)
    for t in range(tokens):
        keys = logits[t]
        if scope == "all":
            row = scores(logits[t], score)
            keys = row if select_on == "scores" else keys
        if bias is not None:
            with np.errstate(invalid="ignore"):
                keys = _nan_to_neg_inf(keys + np.asarray(bias, dtype))
        if groups:
            keys = _limit_to_groups(keys, groups)
        chosen = ids[t] = _best(keys, k)
        mixed = None if mix is None else np.asarray(mix[t], dtype)
        if scope == "selected":
            picked = logits[t, chosen] if mixed is None else _nan_to_neg_inf(mixed[chosen])
            w = softmax(picked)
        else:
            w = row[chosen] if mixed is None else mixed[chosen]
        if renormalize:
            w = _renormalized(w, renormalize)
        with np.errstate(invalid="ignore"):
            weights[t] = w * dtype(scale)
    return weights, ids


def _within_capacity(ids: Array, experts: int, capacity: int, order: str,
                     priority: Array | None, tokens_per_group: int | None) -> Array:
    """`T×k` bool: the choices that an expert of limited capacity keeps."""
    tokens, k = ids.shape
    per_group = tokens if tokens_per_group is None else tokens_per_group
    if tokens and per_group < 1:
        raise ValueError(f"tokens_per_group is {per_group}")
    kept = np.zeros(ids.shape, bool)
    rank = None if priority is None else _nan_to_neg_inf(np.asarray(priority, np.float64))
    for start in range(0, tokens, max(per_group, 1)):
        group = range(start, min(start + per_group, tokens))
        places = ([(t, j) for t in group for j in range(k)] if order == "token_major"
                  else [(t, j) for j in range(k) for t in group])
        for e in range(experts):
            mine = [place for place in places if ids[place] == e]
            if rank is not None:
                mine.sort(key=lambda place: -rank[place])  # stable: ties stay in order
            for place in mine[:max(capacity, 0)]:
                kept[place] = True
    return kept


def dispatch(ids: Array, experts: int, tokens: Sequence[Array] = (),
             choices: Sequence[Array] = (), *, capacity: int | None = None,
             order: str = "token_major", priority: Array | None = None,
             tokens_per_group: int | None = None,
             inits: Sequence[Array] | None = None) -> tuple[Array, Array, list[Array]]:
    """moe.dispatch: ids `T×k` → offsets `E+1`, slots `T×k`, and a row value for each payload.

    `inits` are the destinations of the row values, which give M and the values of rows that nobody
    owns; without them M = offsets[E]. ValueError when M is too small.
    """
    ids = np.asarray(ids)
    kept = (ids >= 0) & (ids < experts)
    if capacity is not None:
        kept &= _within_capacity(ids, experts, capacity, order, priority, tokens_per_group)
    slots = np.full(ids.shape, -1, np.int32)
    offsets, source = np.zeros(experts + 1, np.int32), []
    for e in range(experts):
        for t, j in zip(*np.nonzero(kept & (ids == e))):  # by token, then choice
            slots[t, j] = len(source)
            source.append((t, j))
        offsets[e + 1] = len(source)
    payloads = [*tokens, *choices]
    if inits is None:
        inits = [np.zeros((len(source), *p.shape[1 if i < len(tokens) else 2:]), p.dtype)
                 for i, p in enumerate(payloads)]
    rows = []
    for i, (payload, init) in enumerate(zip(payloads, inits, strict=True)):
        if len(init) < len(source):
            raise ValueError(f"{len(source)} rows don't fit into M = {len(init)}")
        value = np.array(init)
        for row, (t, j) in enumerate(source):
            value[row] = payload[t] if i < len(tokens) else payload[t, j]
        rows.append(value)
    return offsets, slots, rows


def plan(ids: Array, experts: int, rows: int, **limits) -> tuple[Array, Array, Array]:
    """moe.plan: offsets and slots as of dispatch, and the source of each of `rows` rows: t·k + j,
    −1 where there is none."""
    ids = np.asarray(ids)
    places = np.arange(ids.size, dtype=np.int32).reshape(ids.shape)
    offsets, slots, (source,) = dispatch(ids, experts, choices=[places],
                                         inits=[np.full(rows, -1, np.int32)], **limits)
    return offsets, slots, source


def route(x: Array, router: Array, k: int, score: str, *, experts: int | None = None,
          logits: Callable[[Array], Array | tuple[Array, Array]] | None = None,
          weights: Callable[[Array, Array], Array] | None = None, id_map: Array | None = None,
          rows: int | None = None, limits: dict | None = None, **gate_options
          ) -> tuple[Array, Array, Array, Array, Array]:
    """moe.route: x `T×K`, router `E×K` → weights, ids, offsets (of `experts`, or E), slots, source.

    `logits` maps the sums `T×E` to the logits, or to logits and mix; `weights` maps the weights
    `T×k` and the router's ids to what is stored. `limits` are the capacity options of `plan`.
    """
    sums = np.asarray(x, np.float64) @ np.asarray(router, np.float64).T
    made = logits(sums) if logits else sums
    made, mix = made if isinstance(made, tuple) else (made, None)
    chosen, ids = gate(made, k, score, mix=mix, **gate_options)
    if weights:
        chosen = weights(chosen, ids)
    if id_map is not None:
        ids = np.asarray(id_map, np.int32)[ids]
    planned = plan(ids, len(router) if experts is None else experts,
                   ids.size if rows is None else rows, **(limits or {}))
    return chosen, ids, *planned


def expert(offsets: Array, rows: Sequence[Array], params: Sequence[Array],
           inits: Sequence[Array], body: Callable[..., Sequence[Array]]) -> list[Array]:
    """moe.expert: `body(e, rows…, slices…)` for each expert that has rows.

    A yielded value of the rank of its init gives rows, one of a rank less gives slice e.
    """
    results = [np.array(init) for init in inits]
    for e in range(len(offsets) - 1):
        own = slice(offsets[e], offsets[e + 1])
        if own.stop <= own.start:
            continue
        yielded = body(e, *(value[own] for value in rows), *(value[e] for value in params))
        for result, value in zip(results, yielded, strict=True):
            if np.ndim(value) == result.ndim:
                result[own] = value
            else:
                result[e] = value
    return results


def combine(rows: Array, slots: Array, weights: Array, base: Array | None = None) -> Array:
    """moe.combine: y[t] = Σ_j weights[t, j] · rows[slots[t, j]] [+ base[t]], `T×H` float64."""
    rows, weights = np.asarray(rows, np.float64), np.asarray(weights, np.float64)
    slots = np.asarray(slots)
    y = np.zeros((len(slots), rows.shape[1]))
    for t in range(len(slots)):
        for j in np.argsort(slots[t], kind="stable"):
            if 0 <= slots[t, j] < len(rows):
                y[t] += weights[t, j] * rows[slots[t, j]]
    return y if base is None else y + np.asarray(base, np.float64)


@dataclass(frozen=True)
class Indexed:
    """An operand of moe.grouped_matmul; `index(e, m, t, j, n, k)` is what stands behind its name."""

    array: Array
    index: Callable[[int, int, int, int, int, int], tuple[int, ...]]

    def at(self, *indices: int) -> np.generic:
        where = self.index(*indices)
        if not all(0 <= i < size for i, size in zip(where, self.array.shape, strict=True)):
            raise ValueError(f"index {where} is outside of {self.array.shape}")
        return self.array[where]


@dataclass(frozen=True)
class Term:
    """Σ_k prologue(lhs, extras …) · decode(n, k, stored …).

    Where there is no prologue or no decode, the lhs or the weight as it is.
    """

    lhs: Indexed
    stored: Sequence[Indexed]
    decode: Callable[..., float] | None = None
    extras: Sequence[Indexed] = ()
    prologue: Callable[..., float] | None = None

    def sum(self, e: int, m: int, t: int, j: int, n: int) -> float:
        total = 0.0
        for k in range(self.lhs.array.shape[1]):
            values = [operand.at(e, m, t, j, n, k) for operand in self.stored]
            weight = self.decode(n, k, *values) if self.decode else values[0]
            row = [operand.at(e, m, t, j, n, k) for operand in (self.lhs, *self.extras)]
            lhs = self.prologue(*row) if self.prologue else row[0]
            total += float(lhs) * float(weight)
        return total


def grouped_matmul(offsets: Array, products: Sequence[Sequence[Term]],
                   epilogue: Callable[..., Sequence[float]], inits: Sequence[Array], *,
                   extras: Sequence[Indexed] = (), source: Array | None = None,
                   top_k: int = 1) -> list[Array]:
    """moe.grouped_matmul without combine: rows `M×N` of each destination.

    A product is a sequence of terms; `epilogue(products …, extras …)` gives a number a destination.
    Rows that nobody owns keep their destination's value. With combine: `combine` of the result.
    """
    rows = [np.array(init) for init in inits]
    for e in range(len(offsets) - 1):
        for m in range(offsets[e], offsets[e + 1]):
            t, j = divmod(int(source[m]), top_k) if source is not None else (0, 0)
            for n in range(rows[0].shape[1]):
                sums = [sum(term.sum(e, m, t, j, n) for term in terms) for terms in products]
                values = [extra.at(e, m, t, j, n, 0) for extra in extras]
                for row, value in zip(rows, epilogue(*sums, *values), strict=True):
                    row[m, n] = value
    return rows
