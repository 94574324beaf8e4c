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

import goals  # noqa: E402
import report as reporting  # noqa: E402
from cases import CASES, ELEMENT_BYTES, SUITES, Points  # noqa: E402
from machine import commit, cpu_name, measure_roof  # noqa: E402
from peers import PEERS, interpreter, refusal  # noqa: E402
from skew import SKEWS  # noqa: E402

LEAST_SKEWED_TOKENS = 64  # fewer cannot be spread unevenly over many experts


def numbers(text: str) -> tuple[int, ...]:
    """"1,16" → (1, 16), each at least 1."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers: 1,16,256")
    return found


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
    parser.add_argument("--tokens", type=numbers, default=(1, 16, 256))
    parser.add_argument("--threads", type=numbers, default=(2,))
    parser.add_argument("--peers", type=_names(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument("--skews", type=_names(SKEWS), default=[],
                        help="ours on skewed routing, against ours on even routing: one,zipf")
    parser.add_argument("--alone", action="store_true",
                        help="ours without peers: no --peers is needed then")
    parser.add_argument("--rounding", choices=("strict", "relaxed"), default="strict",
                        help="ours: as the model rounds, or where rows are stored")
    parser.add_argument("--weights", choices=("packed", "mapped"), default="packed",
                        help="ours: packed before the first call, as peers do, or as a checkpoint "
                             "has them")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a point and peer")
    parser.add_argument("--pairs", type=int, default=0, help="of a point, instead of --seconds")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, help="where the table goes too")
    parser.add_argument("--picture", type=Path, help="a roofline (PNG)")
    chosen = parser.parse_args(arguments)
    if bool(chosen.suite) == bool(chosen.case):
        parser.error("say what to measure: --suite or --case, and not both")
    return chosen


def make_lines(chosen: argparse.Namespace) -> list[Points]:
    """The points to measure, each line with its peers."""
    if chosen.suite:
        suite = SUITES[chosen.suite]
        return [line._replace(peers=tuple(chosen.peers or line.peers or suite.peers))
                for line in suite.lines]
    peers = tuple(chosen.peers or (() if chosen.alone else SUITES["short"].peers))
    return [Points(case, dtype, chosen.tokens, chosen.threads, peers, tuple(chosen.skews),
                   chosen.alone)
            for case in chosen.case for dtype in chosen.type]


def make_jobs(chosen: argparse.Namespace) -> tuple[list[tuple[Path, dict]], list[dict]]:
    """A process for each case, type and environment: its interpreter and its job.

    And what is left out, with the reason.
    """
    jobs: dict[tuple, dict] = {}
    refused: list[dict] = []
    for line in make_lines(chosen):
        points = [(tokens, threads) for threads in line.threads for tokens in line.tokens]

        def job(python: Path) -> dict:
            return jobs.setdefault((line.case, line.dtype, python), {
                "case": line.case, "dtype": line.dtype, "peers": {}, "alone": [], "skews": [],
                "seconds": chosen.seconds, "pairs": chosen.pairs,
                "rounding": chosen.rounding, "weights": chosen.weights})
        for peer in line.peers:
            reason = refusal(peer, CASES[line.case], line.dtype)
            if reason:
                refused.append({"case": line.case, "dtype": line.dtype, "peer": peer,
                                "points": [], "reason": reason, "failed": False})
            else:
                job(interpreter(peer))["peers"].setdefault(peer, []).extend(points)
        skewed = [point for point in points if point[0] >= LEAST_SKEWED_TOKENS]
        if line.skews and skewed:
            job(Path(sys.executable))["skews"] += [
                (skew, *point) for skew in line.skews for point in skewed]
        if line.alone:
            job(Path(sys.executable))["alone"] += points
    unique = {json.dumps(entry): entry for entry in refused}
    return [(python, each) for (_, _, python), each in jobs.items()], list(unique.values())


def run_job(python: Path, job: dict) -> dict:
    """What worker.py found; a process that died is an entry of `not_run`."""
    counts = {threads for points in job["peers"].values() for _, threads in points}
    counts |= {point[-1] for point in [*job["alone"], *job["skews"]]}
    job = job | {"roofs": [measure_roof(count)._asdict() for count in sorted(counts)]}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "job.json"), Path(folder, "out.json")
        source.write_text(json.dumps(job))
        status = subprocess.run([python, HERE / "worker.py", source, out],
                                env={**os.environ, "OMP_NUM_THREADS": str(max(counts))}).returncode
        if status == 0:
            return json.loads(out.read_text())
    return {"not_run": [{"case": job["case"], "dtype": job["dtype"],
                         "peer": ", ".join(job["peers"]) or "ours", "points": [],
                         "reason": f"the process ended with status {status}", "failed": True}]}


def main(arguments: list[str] | None = None) -> int:
    """1 when something failed; what ran is written all the same."""
    chosen = parse_arguments(arguments)
    try:
        jobs, refused = make_jobs(chosen)
    except FileNotFoundError as error:
        sys.exit(f"run.py: {error}")
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")
    report = {"format": 3, "date": now, "cpu": cpu_name(), "commit": commit(),
              "cores": len(os.sched_getaffinity(0)), "suite": chosen.suite, "points": [],
              "alone": [], "skews": [], "not_run": refused}

    def save() -> None:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    save()
    for python, job in jobs:
        for key, entries in run_job(python, job).items():
            report[key] += entries
        save()  # all there is so far
    text = reporting.markdown(report) + ("\n" + goals.markdown(report) if chosen.suite == "bar"
                                         else "")
    print(text, end="")
    if chosen.markdown:
        chosen.markdown.write_text(text)
    if chosen.picture and report["points"] + report["alone"]:
        reporting.picture(report, chosen.picture)
    return int(any(entry["failed"] for entry in report["not_run"]))


if __name__ == "__main__":
    sys.exit(main())
