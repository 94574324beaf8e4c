"""Inputs whose routing is prescribed: what a router that is not even costs.

Every routing of one batch has the same choices of k different experts a token and meets the same
experts, so it has the FLOPs and the bytes of the even one; only the rows are spread otherwise.
"""

from __future__ import annotations

import numpy as np

from cases import Case
from data import Array, Weights, representable, route, widen

SKEWS = {"one": "all tokens choose one expert, among others",
         "zipf": "experts are popular as 1/rank"}


def popularity(skew: str, experts: int) -> Array:
    """How likely each expert is to be chosen first, up to a factor."""
    if skew == "even":
        return np.ones(experts)
    if skew == "one":
        return np.where(np.arange(experts) == 0, 1e12, 1.0)
    if skew == "zipf":
        return 1 / np.arange(1.0, experts + 1)
    raise ValueError(f"there is no routing {skew!r}; known are even, {', '.join(SKEWS)}")


def number_met(case: Case, tokens: int) -> int:
    """How many experts a batch meets: all, where there are rows enough to be spread unevenly."""
    return max(case.top_k, min(case.experts, tokens * case.top_k // 8))


def choose(skew: str, tokens: int, met: int, top_k: int, seed: int = 0) -> Array:
    """T×k different ids, which are the first `met` experts together.

    Weighted draws without repetition: the k largest of log-popularity plus Gumbel noise. One token
    each is given to every expert, so that the unpopular are met, too.
    """
    if not top_k <= met <= tokens * max(top_k - 1, 1):
        raise ValueError(f"{tokens} tokens with {top_k} experts each cannot meet {met} experts")
    random = np.random.default_rng(seed)
    keys = np.log(popularity(skew, met)) + random.gumbel(size=(tokens, met))
    keys[np.arange(met) % tokens, np.arange(met)] = np.inf
    return np.argsort(-keys, axis=1, kind="stable")[:, :top_k]


def steer(case: Case, weights: Weights, ids: Array, seed: int = 0) -> Array:
    """Inputs whose router chooses `ids`: random ones, moved along the rows of the router."""
    random = np.random.default_rng(seed)
    tokens, router = len(ids), widen(weights.router)
    x = random.standard_normal((tokens, case.hidden))
    logits = random.uniform(-2, -1, (tokens, case.experts))
    np.put_along_axis(logits, ids, random.uniform(1, 2, ids.shape), axis=1)
    if "router_bias" in weights.tensors:
        logits -= widen(weights.tensors["router_bias"])
    x += np.linalg.solve(router @ router.T, (logits - x @ router.T).T).T @ router
    x = representable(x)
    got = route(case, weights, x).ids
    if not np.array_equal(np.sort(got, axis=1), np.sort(ids, axis=1)):
        raise RuntimeError(f"case {case.name}: inputs could not be made for a prescribed routing")
    return x
