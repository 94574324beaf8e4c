"""What is to be reached on two threads, and whether a report of the suite `bar` shows it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from report import beyond, routing_share
from stats import TIE

THREADS = 2
TIED_TOKENS = 16  # up to here everybody reads memory as fast as it goes: a tie is enough
GATED, BODIES = ("A", "B", "C", "D"), ("G", "N")
MEMORY_BOUND = ("A", "B", "C")


class Best(NamedTuple):
    """A point of ours against the best peer that ran it."""

    point: dict
    verdict: str  # won, tied, lost, open

    @property
    def is_reached(self) -> bool:
        """Won, or tied where that counts."""
        tie_counts = self.point["tokens"] <= TIED_TOKENS
        return self.verdict == "won" or (tie_counts and self.verdict == "tied")


class Line(NamedTuple):
    """A line of the table."""

    where: str
    bar: str
    found: str
    met: bool | None  # None: nothing was measured

    def __str__(self) -> str:
        told = {True: "met", False: "**not met**", None: "not measured"}[self.met]
        return f"| {self.where} | {self.bar} | {self.found} | {told} |"


def _key(point: dict) -> tuple:
    return point["case"], point["dtype"], point["tokens"]


def best_peers(points: Iterable[dict]) -> list[Best]:
    """For each case, type and T on two threads, the comparison with the lowest ratio."""
    worst: dict[tuple, dict] = {}
    for point in points:
        if point["threads"] == THREADS:
            known = worst.setdefault(_key(point), point)
            if point["ratio"] < known["ratio"]:
                worst[_key(point)] = point
    return [Best(point, point["verdict"]) for point in worst.values()]


def shares(points: Iterable[dict]) -> dict[tuple, float]:
    """Case, type and T → our share of the bound: the median over the peers that stood beside us."""
    found: dict[tuple, list[float]] = {}
    for point in points:
        if point["threads"] == THREADS:
            found.setdefault(_key(point), []).append(point["ours_share"])
    return {key: statistics.median(values) for key, values in found.items()}


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive numbers, at least one."""
    logarithms = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logarithms))


def _name(key: tuple) -> str:
    return f"{key[0]} {key[1]} T={key[2]}"


def _share_line(where: str, least: float, found: dict[tuple, float],
                takes: Callable[[str, int], bool]) -> Line:
    """All shares of a line have to reach the bar; the lowest is named."""
    values = {key: share for key, share in found.items() if takes(key[0], key[2])}
    bar = f"≥ {least:.0%} of the bound"
    if not values:
        return Line(where, bar, "", None)
    low = min(values, key=values.get)
    enough = sum(share >= least for share in values.values())
    return Line(where, bar, f"{enough} of {len(values)} points; lowest {values[low]:.0%} "
                f"({_name(low)})", enough == len(values))


BANDS = ((0.92, "1, 2, 4, 8", lambda tokens: tokens <= 8),
         (0.95, "16", lambda tokens: tokens == 16),
         (0.80, "32, 64", lambda tokens: 32 <= tokens <= 64),
         (0.88, "≥ 256", lambda tokens: tokens >= 256))


def _share_lines(found: dict[tuple, float]) -> list[Line]:
    lines = []
    for cases, who in ((MEMORY_BOUND, "A, B, C"), (BODIES, "G, N")):
        for least, band, takes in BANDS:
            # Prefill is asked of D, too: there it is no matter of memory.
            wider = cases + (("D",) if who == "A, B, C" and least == 0.88 else ())
            lines.append(_share_line(
                f"T = {band} on {', '.join(wider)}".replace("= ≥", "≥"), least, found,
                lambda case, tokens, wider=wider, takes=takes: case in wider and takes(tokens)))
    return lines


def _peer_lines(bests: list[Best]) -> list[Line]:
    gated = [best for best in bests if best.point["case"] in GATED]
    others = [best for best in bests if best.point["case"] in BODIES]
    lines = []
    if gated:
        missed = [best for best in gated if not best.is_reached]
        told = f"{len(gated) - len(missed)} of {len(gated)} points"
        if missed:
            told += "; not " + ", ".join(f"{_name(_key(best.point))} ({best.verdict})"
                                         for best in missed)
        mean = geometric_mean(best.point["ratio"] for best in gated)
        lines += [Line("A–D", f"faster than the best peer; at T ≤ {TIED_TOKENS} no slower", told,
                       not missed),
                  Line("A–D", "geometric mean ≥ 1.15", f"{mean:.2f}", mean >= 1.15)]
    else:
        lines += [Line("A–D", "faster than the best peer", "", None),
                  Line("A–D", "geometric mean ≥ 1.15", "", None)]
    low = min(others, key=lambda best: best.point["ratio"], default=None)
    lines.append(Line("G, N", "≥ 2 times as fast as the best peer",
                      f"lowest {low.point['ratio']:.2f} ({_name(_key(low.point))}, "
                      f"{low.point['peer']})" if low else "",
                      low.point["ratio"] >= 2 if low else None))
    return lines


def _routing_lines(points: Iterable[dict]) -> list[Line]:
    """On A: the time at one token, the share of prefill."""
    mine = [p for p in points if p["case"] == "A" and p["threads"] == THREADS]
    one = [p["routing_seconds"] for p in mine if p["tokens"] == 1]
    worst = max((p for p in mine if p["tokens"] >= 256), key=routing_share, default=None)
    return [
        Line("routing on A, T = 1", "≤ 20 µs",
             f"{statistics.median(one) * 1e6:.1f} µs" if one else "",
             statistics.median(one) <= 20e-6 if one else None),
        Line("routing on A, T ≥ 256", "≤ 3 % of the layer",
             f"highest {routing_share(worst):.1%} ({_name(_key(worst))})" if worst else "",
             routing_share(worst) <= 0.03 if worst else None)]


def _other_lines(report: dict) -> list[Line]:
    # Alone: what a peer leaves in the cache is not what a server would.
    tiny = [p["ours_seconds"] for p in report["alone"]
            if p["case"] == "tiny" and p["tokens"] == 1 and p["threads"] == THREADS]
    seconds = [p["compile_seconds"] for p in report["points"] + report["alone"]]
    skews = [entry for entry in report["skews"] if entry["threads"] == THREADS]
    worst = max(skews, key=lambda entry: entry["ratio"], default=None)
    largest = max(report["points"] + report["alone"], default=None,
                  key=lambda p: beyond(p) / p["memory"]["allowed_beyond"])
    return [
        Line("tiny, T = 1", "≤ 25 µs", f"{min(tiny) * 1e6:.1f} µs" if tiny else "",
             min(tiny) <= 25e-6 if tiny else None),
        Line("skewed routing", "≤ 1.3 times the time of even routing",
             f"highest {worst['ratio']:.2f} ({_name(_key(worst))}, {worst['skew']})" if worst
             else "", worst["ratio"] <= 1.3 if worst else None),
        Line("compile, layer to `.so`, one ISA", "≤ 1.5 s",
             f"longest {max(seconds):.2f} s" if seconds else "",
             max(seconds) <= 1.5 if seconds else None),
        Line("peak memory at run", "weights and the workspace of the header",
             f"at most {beyond(largest) * 1e-6:.2f} MB more, of stacks and code "
             f"({_name(_key(largest))})" if largest else "",
             beyond(largest) <= largest["memory"]["allowed_beyond"] if largest else None)]


def lines(report: dict) -> list[Line]:
    """The table, line by line."""
    bests = best_peers(report["points"])
    return [*_peer_lines(bests), *_share_lines(shares(report["points"])),
            *_routing_lines(report["points"] + report["alone"]), *_other_lines(report)]


def tally(bests: list[Best]) -> list[str]:
    """A row for each case and type: against the best peer of each point."""
    rows = []
    for case, dtype in sorted({(best.point["case"], best.point["dtype"]) for best in bests}):
        mine = [b for b in bests if (b.point["case"], b.point["dtype"]) == (case, dtype)]
        count = {name: sum(best.verdict == name for best in mine)
                 for name in ("won", "tied", "lost", "open")}
        low = min(mine, key=lambda best: best.point["ratio"])
        mean = geometric_mean(best.point["ratio"] for best in mine)
        rows.append(f"| {case} | {dtype} | {count['won']} | {count['tied']} | {count['lost']} "
                    f"| {count['open']} | {mean:.2f} | {low.point['ratio']:.2f} at "
                    f"T={low.point['tokens']}, {low.point['peer']} |")
    return rows


def markdown(report: dict) -> str:
    """Won, tied and lost per case; then what is to be reached."""
    bests = best_peers(report["points"])
    return "\n".join([
        f"Against the best peer of each point, {THREADS} threads (tied: above {TIE}):", "",
        "| case | type | won | tied | lost | open | geometric mean | lowest ratio |",
        "|" + "---|" * 8, *tally(bests), "",
        "| where | bar | found | |", "|---|---|---|---|",
        *map(str, lines(report))]) + "\n"
