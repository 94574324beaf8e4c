"""JSON of run.py → a markdown table and a roofline picture.

    python benchmarks/report.py OUT.json [--markdown=TABLE.md] [--picture=ROOFLINE.png]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

from peers import PEERS


def heading(report: dict) -> str:
    """Machine, date and commit: figures mean nothing without them."""
    return (f"{report['cpu']}, {report['cores']} cores, {report['date']}, commit "
            f"{report['commit']}")


def _ratio(entry: dict) -> str:
    """With its interval."""
    interval = entry["ratio_interval"]
    ends = f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else "too few pairs"
    return f"{entry['ratio']:.2f} ({ends})"


def _row(point: dict) -> str:
    return (f"| {point['case']} | {point['dtype']} | {point['tokens']} | {point['threads']} "
            f"| {point['ours_seconds'] * 1e3:.3f} | {point['peer']} "
            f"| {point['peer_seconds'] * 1e3:.3f} | {_ratio(point)} "
            f"| {point['verdict']} | {point['bound_seconds'] * 1e3:.3f} | {_rate(point)} "
            f"| {point['ours_share']:.0%} | {point['peer_share']:.0%} "
            f"| {point['ours_error']['relative']:.1e} | {point['peer_error']['relative']:.1e} "
            f"| {point['foreign_cores']:.2f} |")


def _errors(points: list[dict]) -> list[str]:
    """The largest errors of each program, for each type."""
    largest: dict[tuple[str, str], dict] = {}
    for point in points:
        sides = {"ours": point["ours_error"]}
        if "peer" in point:
            sides[point["peer"]] = point["peer_error"]
        for who, error in sides.items():
            known = largest.setdefault((point["dtype"], who), dict(error))
            for kind, value in error.items():
                known[kind] = max(known[kind], value)
    return [f"| {dtype} | {who} | {error['relative']:.2e} | {error['absolute']:.2e} |"
            for (dtype, who), error in sorted(largest.items())]


def _rate(point: dict) -> str:
    """The roof that bounds a point."""
    roof = point["roof"]
    return (f"{roof['read'] * 1e-9:.1f} GB/s" if point["bound_by"] == "memory"
            else f"{roof['flops'][point['dtype']] * 1e-9:.0f} GFLOP/s")


def _spread(values: list[float]) -> str:
    """The median; and the least and the largest, where they differ."""
    low, middle, high = (f"{each(values):.0f}" for each in (min, statistics.median, max))
    return middle + (f" ({low} to {high})" if low != high else "")


PROBES = (("flops_meanwhile", "arithmetic", "GFLOP/s"), ("read_meanwhile", "memory", "GB/s"))


def _roofs(points: list[dict]) -> list[str]:
    """What was measured before the processes, and what between the calls: clocks change."""
    lines = []
    for dtype, threads in sorted({(p["dtype"], p["threads"]) for p in points}):
        for probe, what, unit in PROBES:
            probed = [p for p in points if (p["dtype"], p["threads"]) == (dtype, threads)
                      and "roof_before" in p and p[probe]]  # format 2 has no roof_before
            if probed:
                before, meanwhile = (
                    _spread([roof["flops"][dtype] * 1e-9 if what == "arithmetic"
                             else roof["read"] * 1e-9 for roof in (p[key] for p in probed)])
                    for key in ("roof_before", "roof"))
                lines.append(f"* Roof of {what}, {dtype}, {threads} threads: {before} {unit} "
                             f"before the process, {meanwhile} between the calls of "
                             f"{len(probed)} comparisons")
    return lines


def _alone_row(point: dict) -> str:
    return (f"| {point['case']} | {point['dtype']} | {point['tokens']} | {point['threads']} "
            f"| {point['ours_seconds'] * 1e3:.4f} | {point['ours_min_seconds'] * 1e3:.4f} "
            f"| {point['flops'] / point['ours_seconds'] * 1e-9:.1f} "
            f"| {point['bound_seconds'] * 1e3:.4f} | {_rate(point)} | {point['ours_share']:.0%} "
            f"| {point['ours_error']['relative']:.1e} | {point['foreign_cores']:.2f} |")


def _skew_row(entry: dict) -> str:
    return (f"| {entry['case']} | {entry['dtype']} | {entry['tokens']} | {entry['threads']} "
            f"| {entry['skew']} | {entry['experts_met']} | {entry['even_seconds'] * 1e3:.3f} "
            f"| {entry['skewed_seconds'] * 1e3:.3f} | {_ratio(entry)} |")


def by_point(points: list[dict]) -> dict[tuple, list[dict]]:
    """Case, type, T and threads → what was measured there, once for each peer beside ours."""
    found: dict[tuple, list[dict]] = {}
    for point in points:
        key = point["case"], point["dtype"], point["tokens"], point["threads"]
        found.setdefault(key, []).append(point)
    return found


def beyond(point: dict) -> int:
    """Bytes that a call of ours took beside its workspace and its result."""
    memory = point["memory"]
    return memory["grown"] - memory["workspace"] - memory["result"]


def routing_share(point: dict) -> float:
    """Of the layer's time, what is spent before its experts begin."""
    return point["routing_seconds"] / point["ours_seconds"]


def _call_rows(points: list[dict]) -> list[str]:
    """What there is to know of ours whoever stands beside it."""
    rows = []
    for (case, dtype, tokens, threads), same in by_point(points).items():
        memory = same[0]["memory"]
        rows.append(f"| {case} | {dtype} | {tokens} | {threads} | {same[0]['regions']} "
                    f"| {statistics.median(p['routing_seconds'] for p in same) * 1e6:.1f} "
                    f"| {statistics.median(map(routing_share, same)):.1%} "
                    f"| {memory['workspace'] * 1e-6:.2f} | {memory['result'] * 1e-6:.2f} "
                    f"| {max(map(beyond, same)) * 1e-6:.2f} |")
    return rows


def _weights(point: dict) -> str:
    """Whose layout they have."""
    if point.get("ours_weights", "mapped") == "mapped":
        return "the checkpoint's"
    size, rate = point["packed_bytes"] * 1e-9, 1e-9 / point["pack_seconds"]
    return (f"packed, {point['case']} {point['dtype']}: {size:.2f} GB in "
            f"{point['pack_seconds'] * 1e3:.0f} ms, {2 * point['packed_bytes'] * rate:.0f} GB/s read "
            "and written")


def _copies(points: list[dict]) -> list[str]:
    """What each peer's own weights take, beside the checkpoint's that ours reads."""
    most: dict[tuple, int] = {}
    for point in points:
        key = point["case"], point["dtype"], point["peer"]
        most[key] = max(most.get(key, 0), point["peer_prepared_bytes"])
    return [f"{peer} on {case} {dtype} {size * 1e-9:.2f} GB"
            for (case, dtype, peer), size in sorted(most.items())]


def _table(columns: str, rows) -> list[str]:
    """Of columns with | between them."""
    return [f"| {columns} |", "|" + "---|" * (columns.count("|") + 1), *rows, ""]


def _comparisons(points: list[dict]) -> list[str]:
    """A line for each point and peer, and how many were won."""
    counts: dict[str, int] = {}
    for point in points:
        counts[point["verdict"]] = counts.get(point["verdict"], 0) + 1
    mean = math.exp(sum(math.log(p["ratio"]) for p in points) / len(points))
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return [*_table("case | type | T | threads | ours ms | peer | peer ms | ratio | | bound ms "
                    "| roof | ours of bound | peer of bound | ours error | peer error "
                    "| foreign cores", map(_row, points)),
            f"{len(points)} comparisons: {told}; geometric mean of the ratios {mean:.2f}.", ""]


def markdown(report: dict) -> str:
    """All that was measured, then what was not run."""
    points, alone = report["points"], report["alone"]
    lines = [f"{heading(report)}. Ratio: the peer's time over ours, pair by pair, with its 95 % "
             "interval. Bound: what the roof allows that was measured between the calls (that "
             "before them is at the end). Error: the largest difference from float64, of the "
             "token's largest value.", ""]
    if points:
        lines += _comparisons(points)
    if alone:
        lines += ["Ours alone:", "", *_table(
            "case | type | T | threads | ms | least ms | GFLOP/s | bound ms | roof | of bound "
            "| error | foreign cores", map(_alone_row, alone))]
    if report["skews"]:
        lines += ["Ours on skewed routing, against ours on even routing of as many choices and the "
                  "same experts:", "", *_table(
                      "case | type | T | threads | routing | experts | even ms | skewed ms "
                      "| skewed over even", map(_skew_row, report["skews"]))]
    if points or alone:
        lines += ["Calls of ours: parallel regions; time until the experts begin, and its share; "
                  "MB of workspace and of y, and what the process's memory grew by beyond them "
                  "(stacks, code):", "", *_table(
                      "case | type | T | threads | regions | routing µs | of the layer "
                      "| workspace | y | beyond", _call_rows(points + alone))]
        if points:
            lines += ["Weights that peers made for themselves: "
                      + "; ".join(_copies(points)) + ".", ""]
        lines += _table("type | program | largest error of a token | largest error",
                        _errors(points + alone))
    lines += _roofs(points + alone)
    lines += [f"* Weights of ours: {text}" for text in sorted(set(map(_weights, points + alone)))]
    roundings = {f"ours: {p['ours_rounding']}" for p in points + alone}
    roundings |= {f"{p['peer']}: {p['peer_rounding']}" for p in points}
    lines += [f"* Rounding of {rounding}" for rounding in sorted(roundings)]
    for entry in report["not_run"]:
        where = "".join(f" T={tokens} on {threads} threads" for tokens, threads in entry["points"])
        lines.append(f"* {'Failed' if entry['failed'] else 'Left out'}: {entry['case']} "
                     f"{entry['dtype']} {entry['peer']}{where}: {entry['reason']}")
    return "\n".join(lines) + "\n"


SHAPES = "os^Dvx+*P<>"


def picture(report: dict, path: Path) -> None:
    """Operations a second over operations a byte; a panel for each type and number of threads."""
    draw_rooflines(report["points"] + report["alone"], path, heading(report), tuple(PEERS))


def draw_rooflines(points: list[dict], path: Path, title: str, programs: tuple[str, ...]) -> None:
    """Of points with flops, touched_bytes, roof and seconds; `programs` are peers in their order.

    A panel for each type and, where points have them, number of threads.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    panels = sorted({(p["dtype"], p.get("threads", 0)) for p in points})
    if not panels:
        raise ValueError("there is no point to draw")
    colors = {case: f"C{at}" for at, case in enumerate(sorted({p["case"] for p in points}))}
    markers = dict(zip(("ours", *programs), SHAPES))
    figure, axes = plt.subplots(1, len(panels), squeeze=False, layout="constrained",
                                figsize=(2.5 + 5 * len(panels), 4.5))
    for axis, (dtype, threads) in zip(axes[0], panels):
        _draw(axis, [p for p in points if (p["dtype"], p.get("threads", 0)) == (dtype, threads)],
              dtype, colors, markers)
        counted = f", {threads} thread" + "s" * (threads > 1) if threads else ""
        axis.set(title=dtype + counted, xscale="log",
                 yscale="log", xlabel="FLOP per touched byte", ylabel="GFLOP/s")
        axis.grid(alpha=0.3)
    shown = {who: marker for who, marker in markers.items()
             if who == "ours" or any(p.get("peer") == who for p in points)}
    figure.legend(handles=_legend(shown, colors, any("roof_before" in p for p in points)),
                  loc="outside right upper", fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _legend(shown: dict[str, str], colors: dict[str, str], has_before: bool) -> list:
    """Shapes are programs, colors are cases."""
    from matplotlib.lines import Line2D
    programs = [Line2D([], [], linestyle="", marker=marker, color="gray", label=who,
                       markerfacecolor="gray" if who == "ours" else "none")
                for who, marker in shown.items()]
    cases = [Line2D([], [], linestyle="", marker="o", color=color, label=f"case {case}")
             for case, color in colors.items()]
    told = {"roof between the calls": "-", "roof before them": ":"} if has_before else {"roof": "-"}
    roofs = [Line2D([], [], color="black", linewidth=1, linestyle=style, label=label)
             for label, style in told.items()]
    return [*roofs, *programs, *cases]


def median_roof(points: list[dict], key: str, dtype: str) -> tuple[float, float]:
    """Bytes and operations a second: of the points that probed them, where there are any."""
    def median(probe: str, get: Callable[[dict], float]) -> float:
        probed = [p for p in points if p.get(probe)] or points
        return statistics.median(get(p[key]) for p in probed)
    return (median("read_meanwhile", lambda roof: roof["read"]),
            median("flops_meanwhile", lambda roof: roof["flops"][dtype]))


def _draw(axis, points: list[dict], dtype: str, colors: dict[str, str],
          markers: dict[str, str]) -> None:
    """Ours filled, each peer hollow, under the roof between their calls; dotted: that before."""
    def intensity(p: dict) -> float:
        return p["flops"] / p["touched_bytes"]
    low, high = (f(intensity(p) for p in points) for f in (min, max))
    steps = 60
    xs = [low / 2 * (high / low * 4) ** (i / steps) for i in range(steps + 1)]
    for key, style in (("roof_before", ":"), ("roof", "-")):
        if all(key in p for p in points):  # GPUs have one roof
            read, peak = median_roof(points, key, dtype)
            axis.plot(xs, [min(x * read, peak) * 1e-9 for x in xs], style, color="black",
                      linewidth=1)
    for point in points:
        for who, key in (("ours", "ours_seconds"), (point.get("peer"), "peer_seconds")):
            if who:
                axis.plot(intensity(point), point["flops"] / point[key] * 1e-9, markers[who],
                          color=colors[point["case"]], markersize=5,
                          markerfacecolor=None if who == "ours" else "none")


def render(description: str, to_markdown: Callable[[dict], str],
           to_picture: Callable[[dict, Path], None]) -> None:
    """Read the JSON of the command line; the table goes to a file if one is named."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    report = json.loads(arguments.json.read_text())
    table = to_markdown(report)
    if arguments.markdown:
        arguments.markdown.write_text(table)
    else:
        print(table, end="")
    if arguments.picture:
        to_picture(report, arguments.picture)


if __name__ == "__main__":
    render(__doc__.split("\n", 1)[0], markdown, picture)
