"""How well a layer's output and routing agree with a reference (numpy alone).

Every function says what it does with NaN and with nothing at all (T = 0): a NaN on one side alone
is an infinite error, on both sides it is equal; nothing agrees with nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Routing(NamedTuple):
    """Agreement of the ids of T tokens."""

    tokens: int
    equal: int  # tokens whose set of ids is the reference's
    tied: int  # tokens whose k-th and (k+1)-th selection keys are equal: either choice is right
    wrong: int  # tokens with another set of ids and no tie that explains it


def error(y: np.ndarray, reference: np.ndarray) -> float:
    """Max over tokens of max|y − ref| / max|ref of that token|; both `T×H`.

    A token whose reference is all 0 is divided by 1.
    """
    y, reference = np.asarray(y, np.float64), np.asarray(reference, np.float64)
    if y.shape != reference.shape:
        raise ValueError(f"shapes differ: {y.shape} and {reference.shape}")
    if y.size == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(y - reference)
    same = (y == reference) | (np.isnan(y) & np.isnan(reference))
    difference[same] = 0.0
    difference[np.isnan(difference)] = np.inf
    size = np.nanmax(np.where(np.isfinite(reference), np.abs(reference), 0.0), axis=-1)
    return float((difference.max(-1) / np.where(size > 0, size, 1.0)).max())


def routing(ids: np.ndarray, reference: np.ndarray, keys: np.ndarray) -> Routing:
    """Compare `T×k` ids as sets, given the `T×E` selection keys in the model's rounding.

    A token with another set counts as tied only if every id that is in one set alone has exactly
    the k-th largest key.
    """
    ids, reference, keys = np.asarray(ids), np.asarray(reference), np.asarray(keys)
    k, experts = ids.shape[-1], keys.shape[-1]
    mine, theirs = np.sort(ids, -1), np.sort(reference, -1)
    equal = (mine == theirs).all(-1)
    ordered = -np.sort(-keys, -1)
    tied = ordered[:, k - 1] == ordered[:, k] if k < experts else np.zeros(len(ids), bool)
    wrong = 0
    for t in np.flatnonzero(~equal):
        odd = np.setxor1d(ids[t], reference[t])
        inside = ((odd >= 0) & (odd < experts)).all()
        wrong += not (inside and len(set(ids[t])) == k
                      and (keys[t, odd] == ordered[t, k - 1]).all())
    return Routing(len(ids), int(equal.sum()), int(tied.sum()), wrong)
