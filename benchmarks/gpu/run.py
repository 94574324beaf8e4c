#!/usr/bin/env python3
"""Check and time compiled layers on the GPU of this machine (docs/GPU.md).

    python3 moe-gpu/benchmarks/gpu/run.py --json out.json --markdown out.md --picture out.png
    python3 moe-gpu/benchmarks/gpu/run.py --check --memory=driver    # needs NumPy only
    python3 moe-gpu/benchmarks/gpu/run.py --sanitize                 # under compute-sanitizer
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "python")]

from gpu import check, jobs, points, report as reporting, variants  # noqa: E402
from gpu.device import MEMORIES  # noqa: E402

ARTIFACTS = HERE.parents[1] / "artifacts"  # where build.py puts them
TOOLS = ("memcheck", "racecheck", "synccheck")


def _numbers(text: str) -> tuple[int, ...]:
    """"1,16" → (1, 16)."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = (-1,)
    if min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers: 1,16,256")
    return numbers


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--artifacts", type=Path, default=ARTIFACTS, metavar="FOLDER",
                        help="of build.py, if they are not beside this script")
    parser.add_argument("--check", action="store_true", help="check only, time nothing")
    parser.add_argument("--time", action="store_true", help="time only, and what is timed is "
                                                            "checked on a few tokens")
    parser.add_argument("--sanitize", action="store_true",
                        help="check a few small layers under compute-sanitizer, with " +
                             ", ".join(TOOLS))
    parser.add_argument("--memory", choices=MEMORIES, default="torch",
                        help="who allocates: torch, or the driver, which needs no torch")
    parser.add_argument("--only", default="*", metavar="PATTERN",
                        help="names of artifacts, as 'B-bf16-*'")
    parser.add_argument("--counts", type=_numbers, default=check.ANY_TOKENS,
                        help="tokens that code for any number is checked with")
    parser.add_argument("--distinct", type=int, default=check.DISTINCT,
                        help="different tokens of a batch that is checked")
    parser.add_argument("--repeats", type=int, default=3, help="calls that must give equal bits")
    parser.add_argument("--suite", choices=points.SUITES, default="bar", help="what is timed")
    parser.add_argument("--peers", default=",".join(points.PEERS),
                        help="that are timed, some of " + ",".join(points.PEERS))
    parser.add_argument("--seconds", type=float, default=0.5, help="of a point and peer")
    parser.add_argument("--limit", type=float, default=180,
                        help="seconds after which a check or a point is given up")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path, help="a roofline (PNG)")
    chosen = parser.parse_args(arguments)
    chosen.peers = [name for name in chosen.peers.split(",") if name]
    for name in chosen.peers:
        if name not in points.PEERS:
            parser.error(f"--peers: {name!r} is none of {', '.join(points.PEERS)}")
    if chosen.repeats < 2 or chosen.distinct < 1:
        parser.error("--repeats is at least 2, --distinct at least 1")
    if chosen.check + chosen.time + chosen.sanitize > 1:
        parser.error("--check, --time and --sanitize exclude each other")
    if chosen.sanitize:  # torch has findings of its own
        chosen.memory = "driver"
    if chosen.memory == "driver" and not chosen.check and not chosen.sanitize:
        parser.error("times are taken with torch: say --check, or leave --memory=driver out")
    return chosen


def say(item: str, outcome: dict) -> None:
    """A line of progress."""
    found = outcome.get("found", {})
    told = (f"FAILED: {outcome['failed']}" if "failed" in outcome
            else f"ok, error {found['error']:.1e}, {found['calls']} calls" if "error" in found
            else reporting.progress(found) if "programs" in found else "done")
    print(f"{item}: {told}", flush=True)


def probe(chosen: argparse.Namespace) -> dict:
    """The machine; ends the run where there is no GPU."""
    [(_, outcome)] = jobs.run_items({"mode": "probe", "items": ["probe"],
                                     "memory": chosen.memory, "limit": chosen.limit})
    if "failed" in outcome:
        sys.exit(f"run.py: error: no GPU can be used: {outcome['failed']}")
    return outcome["found"]


def groups(bundle: variants.Bundle, pattern: str) -> dict[tuple[str, str], list[str]]:
    """Case and type → names of artifacts."""
    found: dict[tuple[str, str], list[str]] = {}
    for artifact in bundle.artifacts:
        variant = artifact.variant
        if fnmatch.fnmatchcase(variant.name, pattern):
            found.setdefault((variant.case.name, variant.dtype), []).append(variant.name)
    return found


def run_checks(chosen: argparse.Namespace, names: dict[tuple[str, str], list[str]],
               prefix: tuple[str, ...] = ()) -> Iterator[dict]:
    """Every variant that was asked for."""
    for items in names.values():
        job = {"mode": "check", "bundle": str(chosen.artifacts), "items": items,
               "memory": chosen.memory, "counts": chosen.counts, "repeats": chosen.repeats,
               "distinct": chosen.distinct, "limit": chosen.limit}
        for item, outcome in jobs.run_items(job, prefix):
            say(item, outcome)
            yield outcome.get("found") or {"name": item, "failed": outcome["failed"]}


def run_sanitizers(chosen: argparse.Namespace, bundle: variants.Bundle) -> Iterator[dict]:
    """Each tool of compute-sanitizer over checks of small layers; memory by the driver alone."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).exists():
        sys.exit("run.py: error: there is no compute-sanitizer, neither in the PATH nor in "
                 "/usr/local/cuda/bin: it comes with NVIDIA's CUDA toolkit")
    pattern = chosen.only if chosen.only != "*" else "tiny-*"
    names = groups(bundle, pattern)
    chosen.counts, chosen.repeats = (1, 130), 2
    for tool in TOOLS:
        print(f"compute-sanitizer --tool {tool}", flush=True)
        for (case, dtype), items in names.items():
            for item in items:  # so that a finding has a name
                prefix = (program, "--tool", tool, "--error-exitcode", "9")
                for entry in run_checks(chosen, {(case, dtype): [item]}, prefix):
                    yield entry | {"tool": tool}


def measure_roof(chosen: argparse.Namespace) -> dict:
    """What the GPU can do at most, now."""
    [(_, outcome)] = jobs.run_items({"mode": "roof", "items": ["roof"], "memory": "torch",
                                     "limit": chosen.limit})
    if "failed" in outcome:
        sys.exit(f"run.py: error: the machine's roof cannot be measured: {outcome['failed']}")
    print(reporting.roof_line(outcome["found"]), flush=True)
    return outcome["found"]


def run_times(chosen: argparse.Namespace, bundle: variants.Bundle, roof: dict) -> Iterator[dict]:
    """Every point of the suite that there are artifacts for."""
    for line in points.SUITES[chosen.suite]:
        items = points.available(line, bundle, chosen.only)
        if not items:
            continue
        job = {"mode": "time", "bundle": str(chosen.artifacts), "case": line.case,
               "dtype": line.dtype, "items": [str(tokens) for tokens in items],
               "memory": "torch", "peers": chosen.peers, "seconds": chosen.seconds,
               "roof": roof, "limit": chosen.limit}
        name = f"{line.case} {line.dtype} T="
        for item, outcome in jobs.run_items(job):
            say(name + item, outcome)
            yield outcome.get("found") or {"name": name + item, "failed": outcome["failed"]}


def main(arguments: list[str] | None = None) -> int:
    """1 when something is wrong; what ran is written all the same."""
    chosen = parse_arguments(arguments)
    try:
        bundle = variants.read_bundle(chosen.artifacts)
    except ValueError as error:
        sys.exit(f"run.py: error: {error}")
    names = groups(bundle, chosen.only)
    if not names:
        sys.exit(f"run.py: error: no artifact has a name like {chosen.only!r}; there are "
                 + ", ".join(artifact.variant.name for artifact in bundle.artifacts))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")
    report = {"format": 1, "date": now, "commit": bundle.commit, **probe(chosen), "checks": [],
              "sanitized": [], "roof": None, "points": [], "failed": []}

    def save() -> None:
        if chosen.json:
            chosen.json.write_text(json.dumps(report, indent=1) + "\n")

    def keep(key: str, entry: dict) -> None:
        report[key].append(entry)
        save()  # all there is so far, should somebody end this
    if chosen.sanitize:
        for entry in run_sanitizers(chosen, bundle):
            keep("sanitized", entry)
    elif not chosen.time:
        for entry in run_checks(chosen, names):
            keep("checks", entry)
    if not chosen.check and not chosen.sanitize:
        report["roof"] = measure_roof(chosen)
        for entry in run_times(chosen, bundle, report["roof"]):
            keep("failed" if "failed" in entry else "points", entry)
    save()
    text = reporting.markdown(report)
    print(text, end="")
    if chosen.markdown:
        chosen.markdown.write_text(text)
    if chosen.picture and report["points"]:
        reporting.picture(report, chosen.picture)
    entries = report["checks"] + report["sanitized"] + report["failed"]
    return int(any("failed" in entry for entry in entries))


if __name__ == "__main__":
    sys.exit(main())
