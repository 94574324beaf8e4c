"""Paired times of two programs → medians, the ratio with its 95 % interval, and a verdict."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

TIE = 0.97  # a ratio above this, though not above 1, is a tie


class Ratio(NamedTuple):
    """The peer's time over ours, pair by pair: above 1 where we are faster."""

    median: float
    low: float
    high: float


def median_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median, from order statistics: nothing is assumed of the noise.

    Fewer than 6 values cannot give 95 %, so their interval has no ends.
    """
    ordered, n = sorted(values), len(values)
    below, rank = 0.0, 0  # P(fewer than `rank` of n values lie below the median)
    while rank < n // 2:
        step = math.comb(n, rank) * 0.5 ** n
        if below + step > 0.025:
            break
        below, rank = below + step, rank + 1
    if not rank:
        return -math.inf, math.inf
    return ordered[rank - 1], ordered[n - rank]


def paired_ratio(ours: list[float], peer: list[float]) -> Ratio:
    """Of the times of A B A B …: element i of both was measured side by side."""
    if len(ours) != len(peer) or not ours:
        raise ValueError(f"{len(ours)} times of ours but {len(peer)} of the peer; pairs are needed")
    ratios = [b / a for a, b in zip(ours, peer)]
    return Ratio(statistics.median(ratios), *median_interval(ratios))


def verdict(ratio: Ratio) -> str:
    """won, tied, lost; open when the interval is too wide to tell."""
    if ratio.low > 1:
        return "won"
    if ratio.low > TIE:
        return "tied"
    return "lost" if ratio.high < 1 else "open"
