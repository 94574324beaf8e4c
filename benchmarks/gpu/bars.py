"""What is to be reached on an H100 or H200 in bf16, point by point."""

from __future__ import annotations

from typing import NamedTuple

from gpu.points import DECODE, GEMMS

CHIPS = ("H100", "H200")  # the bars are theirs
FINE_GRAINED = ("B", "Q")
BEST_PUBLISHED = {"C": 600e12, "B": 523e12}  # operations a second


class Bar(NamedTuple):
    """One bar of a point; `met` is None where its measurement is missing."""

    what: str
    found: str
    met: bool | None

    def __str__(self) -> str:
        if self.met is None:
            return f"{self.what}: not measured"
        return f"{self.what}: {self.found}, {'met' if self.met else '**not met**'}"


def is_asked_of(report: dict) -> bool:
    """Whether the bars are those of this GPU."""
    return any(chip in report["gpu"] for chip in CHIPS)


def best_peer(point: dict) -> tuple[str, dict] | None:
    """The peer that is hardest to beat."""
    layers = {name: entry for name, entry in point["programs"].items() if name != GEMMS}
    return min(layers.items(), key=lambda item: item[1]["ratio"]) if layers else None


def _ratio(point: dict, least: float) -> Bar:
    best = best_peer(point)
    what = f"≥ {least:g}× the best peer"
    if not best:
        return Bar(what, "", None)
    name, entry = best
    return Bar(what, f"{entry['ratio']:.2f} ({name})", entry["ratio"] >= least)


def _bound(point: dict, least: float) -> Bar:
    return Bar(f"≥ {least:.0%} of the bound", f"{point['ours_share']:.0%}",
               point["ours_share"] >= least)


def _gemms(point: dict) -> Bar:
    """Of cuBLAS's rate on the same rows: the layer's products, in the layer's whole time."""
    entry = point["programs"].get(GEMMS)
    if not entry:
        return Bar("≥ 85% of cuBLAS", "", None)
    return Bar("≥ 85% of cuBLAS", f"{entry['ratio']:.0%}", entry["ratio"] >= 0.85)


def rate(point: dict) -> float:
    """Operations of the experts' products a second."""
    return point["gemm_flops"] / point["ours_seconds"]


def bars_of(point: dict) -> list[Bar]:
    """The bars of a point; none for other types and numbers of tokens."""
    if point["dtype"] != "bf16":
        return []
    tokens, case = point["tokens"], point["case"]
    if tokens >= 8192:
        found = [_ratio(point, 1.1), _gemms(point)]
        if case in BEST_PUBLISHED:
            least = BEST_PUBLISHED[case]
            found.append(Bar(f"≥ {least * 1e-12:.0f} TFLOP/s", f"{rate(point) * 1e-12:.0f}",
                             rate(point) >= least))
        return found
    if 64 <= tokens <= 512:
        return [_bound(point, 0.85)]
    if tokens in DECODE and case in FINE_GRAINED:
        return [_ratio(point, 3), _bound(point, 0.45)]
    return []
