"""Time compiled layers against other programs, side by side (docs/Benchmarks.md).

    python benchmarks/run.py --case A --type bf16 --tokens 1,16,256 --threads 2 --json out.json
    python benchmarks/run.py --suite short --json out.json --markdown out.md --picture out.png
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import report as reporting  # noqa: E402
from cases import CASES, ELEMENT_BYTES, SUITES, Points  # noqa: E402
from machine import cpu_name  # noqa: E402
from peers import PEERS, interpreter  # noqa: E402


def _numbers(text: str) -> tuple[int, ...]:
    """"1,16" → (1, 16), each at least 1."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = (0,)
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers: 1,16,256")
    return numbers


def _names(known) -> callable:
    """"a,b" → ["a", "b"], all of them known."""
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names
    return parse


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--suite", choices=SUITES, help="points of the case file")
    parser.add_argument("--case", type=_names(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--type", type=_names(ELEMENT_BYTES), default=["bf16"])
    parser.add_argument("--tokens", type=_numbers, default=(1, 16, 256))
    parser.add_argument("--threads", type=_numbers, default=(2,))
    parser.add_argument("--peers", type=_names(PEERS), default=["torch-eager", "torch-grouped"],
                        help=f"some of {','.join(PEERS)}")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a point and peer")
    parser.add_argument("--pairs", type=int, default=0, help="of a point, instead of --seconds")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, help="where the table goes too")
    parser.add_argument("--picture", type=Path, help="a roofline (PNG)")
    chosen = parser.parse_args(arguments)
    if bool(chosen.suite) == bool(chosen.case):
        parser.error("say what to measure: --suite or --case, and not both")
    return chosen


def make_jobs(chosen: argparse.Namespace) -> list[tuple[Path, dict]]:
    """A process for each case, type and environment: its interpreter and its job."""
    lines = SUITES[chosen.suite] if chosen.suite else [
        Points(case, dtype, chosen.tokens, chosen.threads)
        for case in chosen.case for dtype in chosen.type]
    points: dict[tuple[str, str], list] = {}
    for line in lines:
        points.setdefault((line.case, line.dtype), []).extend(
            (tokens, threads) for threads in line.threads for tokens in line.tokens)
    environments: dict[Path, list[str]] = {}
    for peer in chosen.peers:
        environments.setdefault(interpreter(peer), []).append(peer)
    return [(python, {"case": case, "dtype": dtype, "points": each, "peers": names,
                      "seconds": chosen.seconds, "pairs": chosen.pairs})
            for (case, dtype), each in points.items() for python, names in environments.items()]


def run_job(python: Path, job: dict) -> dict:
    """What worker.py found; a process that died is an entry of `not_run`."""
    threads = str(max(count for _, count in job["points"]))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "job.json"), Path(folder, "out.json")
        source.write_text(json.dumps(job))
        status = subprocess.run([python, HERE / "worker.py", source, out],
                                env={**os.environ, "OMP_NUM_THREADS": threads}).returncode
        if status == 0:
            return json.loads(out.read_text())
    return {"points": [], "not_run": [{
        "case": job["case"], "dtype": job["dtype"], "peer": ", ".join(job["peers"]),
        "reason": f"the process ended with status {status}", "failed": True}]}


def main(arguments: list[str] | None = None) -> int:
    """1 when something failed; what ran is written all the same."""
    chosen = parse_arguments(arguments)
    try:
        jobs = make_jobs(chosen)
    except FileNotFoundError as error:
        sys.exit(f"run.py: {error}")
    report = {"format": 1, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(
        timespec="minutes"), "cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)),
        "points": [], "not_run": []}
    for python, job in jobs:
        for key, entries in run_job(python, job).items():
            report[key] += entries
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")  # all there is so far
    table = reporting.markdown(report)
    print(table, end="")
    if chosen.markdown:
        chosen.markdown.write_text(table)
    if chosen.picture and report["points"]:
        reporting.picture(report, chosen.picture)
    return int(any(entry["failed"] for entry in report["not_run"]))


if __name__ == "__main__":
    sys.exit(main())
