#!/usr/bin/env python3
"""JSON of run.py → tables and a roofline picture.

    python benchmarks/gpu/report.py OUT.json [--markdown=TABLE.md] [--picture=ROOFLINE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "python")]

import report as plain  # noqa: E402
from gpu import bars, clock, points  # noqa: E402

PROGRAMS = (*points.PEERS, points.GEMMS)


def heading(report: dict) -> str:
    """Machine, software, date and commit: figures mean nothing without them."""
    software = ", ".join(f"{name} {version}" for name, version in report["software"].items())
    return (f"{report['gpu']} ({report['chip']}, {report['multiprocessors']} multiprocessors), "
            + (f"{software}, " if software else "") + f"{report['date']}, commit "
            f"{report['commit']}")


def roof_line(roof: dict) -> str:
    """The roof in a sentence."""
    bf16, tf32, f32 = (roof["flops"][dtype] * 1e-12 for dtype in ("bf16", "tf32", "f32"))
    return (f"Roof: copies {roof['copy'] * 1e-9:.0f} GB/s, sums {roof['read'] * 1e-9:.0f} GB/s, "
            f"cuBLAS {bf16:.0f} TFLOP/s in bf16, {tf32:.0f} in tf32, {f32:.1f} in f32.")


def progress(point: dict) -> str:
    """A point in a line."""
    told = [f"{point['ours_seconds'] * 1e6:.1f} µs, {point['ours_share']:.0%} of the bound"]
    told += [f"{name} {entry['seconds'] * 1e6:.1f} µs (ratio {entry['ratio']:.2f})"
             for name, entry in point["programs"].items()]
    told += [f"{name} FAILED: {why}" for name, why in point["failed_peers"].items()]
    return "; ".join(told)


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}" if seconds < 1e-3 else f"{seconds * 1e6:.0f}"


def _peer_cell(entry: dict | None) -> str:
    if not entry:
        return "–"
    ends = entry["ratio_interval"]
    interval = f" ({ends[0]:.2f}–{ends[1]:.2f})" if ends else ""
    return f"{_microseconds(entry['seconds'])}: {entry['ratio']:.2f}{interval}"


def _row(point: dict, is_asked: bool) -> str:
    found = [str(bar) for bar in bars.bars_of(point)] if is_asked else []
    cells = [point["case"], point["dtype"], point["tokens"], _microseconds(point["ours_seconds"]),
             f"{bars.rate(point) * 1e-12:.1f}", _microseconds(point["bound_seconds"]),
             point["bound_by"], f"{point['ours_share']:.0%}",
             *(_peer_cell(point["programs"].get(name)) for name in PROGRAMS),
             "; ".join(found)]
    return "| " + " | ".join(map(str, cells)) + " |"


def _times(report: dict) -> list[str]:
    is_asked = bars.is_asked_of(report)
    columns = ["case", "type", "T", "ours µs", "TFLOP/s", "bound µs", "by", "of bound",
               *(f"{name} µs: ratio" for name in PROGRAMS), "bars"]
    lines = [roof_line(report["roof"]), "",
             "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns),
             *(_row(point, is_asked) for point in report["points"]), "",
             "Ratio: the peer's time over ours, pair by pair, with its 95 % interval. The products "
             f"of {points.GEMMS} are no layer: its ratio is our rate as a share of cuBLAS's. "
             "TFLOP/s are of the experts' products. The "
             "second cache is cold before each call; up to "
             f"{max(points.MIDDLE)} tokens calls are CUDA graphs, but those of the loop.", ""]
    if not is_asked:
        lines += [f"The bars are for {' and '.join(bars.CHIPS)}, and this is another GPU.", ""]
    # What a peer cannot run it cannot run for any number of tokens.
    lines += dict.fromkeys(f"* Left out: {point['case']} {point['dtype']} {name}: {why}"
                           for point in report["points"] for name, why in point["refused"].items())
    lines += [f"* Failed: {point['case']} {point['dtype']} T={point['tokens']} {name}: {why}"
              for point in report["points"] for name, why in point["failed_peers"].items()]
    return lines


def _checks(entries: list[dict], title: str) -> list[str]:
    wrong = [entry for entry in entries if "failed" in entry]
    right = [entry for entry in entries if "failed" not in entry]
    calls = sum(entry["calls"] for entry in right)
    lines = [f"{title}: {len(right)} of {len(entries)} right, in {calls} calls"
             + (f"; largest error of a token {max(e['error'] for e in right):.1e}." if right
                else "."), ""]
    lines += [f"* Failed: {entry['name']}{_tool(entry)}: {entry['failed'].splitlines()[0]}"
              for entry in wrong]
    return lines + [""] if wrong else lines


def _tool(entry: dict) -> str:
    return f" under {entry['tool']}" if "tool" in entry else ""


def markdown(report: dict) -> str:
    """All that was found."""
    lines = [heading(report) + ".", ""]
    if report["is_emulated"]:
        lines += ["This was no GPU, but the emulation of a stand-in driver.", ""]
    if report["checks"]:
        lines += _checks(report["checks"], "Layers against float64")
    if report["sanitized"]:
        lines += _checks(report["sanitized"], "Layers under compute-sanitizer")
    if report["roof"]:
        lines += _times(report)
    lines += [f"* Failed: {entry['name']}: {entry['failed'].splitlines()[0]}"
              for entry in report["failed"]]
    return "\n".join(lines).rstrip() + "\n"


def picture(report: dict, path: Path) -> None:
    """A roofline as benchmarks/report.py draws it; an empty report is an error."""
    entries = []
    for point in report["points"]:
        measured = clock.Roof(**report["roof"])
        roof = {"read": measured.bandwidth,
                "flops": {point["dtype"]: measured.peak(point["dtype"])}}
        base = {key: point[key] for key in ("case", "dtype", "flops", "touched_bytes",
                                            "ours_seconds")} | {"roof": roof}
        layers = [name for name in point["programs"] if name != points.GEMMS]
        entries += [base | {"peer": name, "peer_seconds": point["programs"][name]["seconds"]}
                    for name in layers] or [base]
    plain.draw_rooflines(entries, path, heading(report), points.PEERS)


if __name__ == "__main__":
    plain.render(__doc__.split("\n", 1)[0], markdown, picture)
