"""Random programs, fused and decomposed: both have to be right.

    python python/tests/random_programs.py --count 10000 --seed 7
    python python/tests/random_programs.py --count 1 --seed 123 --column "cpu=--moe-cpu-lowering"

A column that says nothing wrong is silent. A program that is wrong in one is made smaller, written
to a file with the command that repeats it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from bounded import NoBound  # noqa: E402
from programs import (Broken, Case, Column, ROOT, TIMEOUT, build, call, check, count_ops,  # noqa: E402
                      has_pipeline, module_text, sanitizer_environment, token_counts)
from random_layers import PARTS  # noqa: E402

BATCH = 50  # functions a module
VERIFIED = "--moe-general-lowering=runtime-verification=true"


def default_columns() -> list[Column]:
    """$MOE_TEST_COLUMNS, separated by semicolons; or decomposed, and fused where that exists.

    One of them asserts at run time that offsets ascend and slots do not collide.
    """
    if named := os.environ.get("MOE_TEST_COLUMNS"):
        return [Column.parse(text) for text in named.split(";")]
    decomposed = Column("decomposed", (("--moe-general-lowering",),))
    if not has_pipeline("moe-fuse"):
        return [decomposed, Column("verified", ((VERIFIED,),))]
    return [decomposed, Column("fused", (("--moe-fuse",), (VERIFIED,)))]


@dataclass(frozen=True)
class Failure:
    """A case, and what went wrong with it."""

    case: Case
    message: str

    @property
    def kind(self) -> str:
        """What a smaller case has to have in common: column and stage, not the numbers."""
        return ":".join(self.message.split("\n")[0].split(":")[:2]).split(" with T")[0]


# --- one batch ------------------------------------------------------------------------------------

def run_cases(objects: dict[str, str], cases: Sequence[Case]) -> Iterator[tuple[str, Case, str]]:
    """In this process: ("start" | "right" | "wrong" | "unbounded", case, message)."""
    libraries = {name: ctypes.CDLL(path) for name, path in objects.items()}
    for case in cases:
        yield "start", case, ""
        message, unbounded = "", False
        layer, random = case.layer(), np.random.default_rng(case.seed)
        for tokens in token_counts(layer, random):
            inputs = layer.make_inputs(random, tokens)
            for name, library in libraries.items():
                try:
                    check(layer, inputs, call(library, f"layer_{case.seed}", layer, inputs))
                except AssertionError as error:
                    message = message or f"{name}: wrong with T = {tokens}\n{error}"
                except NoBound:
                    unbounded = True
        yield ("wrong" if message else "unbounded" if unbounded else "right"), case, message


def _worker() -> int:
    """Reads what to run from standard input: a process of its own, as programs may crash."""
    task = json.load(sys.stdin)
    cases = [Case(seed, tuple(without)) for seed, without in task["cases"]]
    for what, case, message in run_cases(task["objects"], cases):
        print(json.dumps([what, case.seed, message]), flush=True)
    return 0


def run_apart(objects: dict[str, Path], cases: Sequence[Case], sanitize: bool = False
              ) -> tuple[list[Failure], collections.Counter]:
    """Runs in other processes: after a crash, another one goes on. Counts the outcomes, too."""
    failures, remaining, counts = [], list(cases), collections.Counter()
    while remaining:
        task = json.dumps({"objects": {name: str(path) for name, path in objects.items()},
                           "cases": [[case.seed, case.without] for case in remaining]})
        try:
            done = subprocess.run([sys.executable, __file__, "--worker"], input=task, text=True,
                                  capture_output=True, timeout=TIMEOUT,
                                  env=sanitizer_environment() if sanitize else None)
            stderr, output, status = done.stderr, done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            stderr, output, status = "", (error.stdout or b"").decode(), f"timeout after {TIMEOUT} s"
        reports = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
        failures += [Failure(remaining[[c.seed for c in remaining].index(seed)], message)
                     for what, seed, message in reports if what == "wrong"]
        counts.update(what for what, _, _ in reports if what != "start")
        finished = {seed for what, seed, _ in reports if what != "start"}
        remaining = [case for case in remaining if case.seed not in finished]
        if status == 0:
            break
        if not remaining:
            raise RuntimeError(f"the worker ended with {status}:\n{stderr}")
        asserted = [line for line in output.splitlines() if not line.startswith("[")]
        failures.append(Failure(remaining.pop(0), f"run: ended with {status}\n"
                                + "\n".join(asserted + [stderr])))
    return failures, counts


def run_batch(columns: Sequence[Column], cases: Sequence[Case], sanitize: bool = False
              ) -> tuple[list[Failure], collections.Counter]:
    """All failures of some cases, and how many functions hold which ops after fusion."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = module_text(cases)
        try:
            objects = {column.name: build(text, column, folder, sanitize) for column in columns}
        except Broken as error:
            if len(cases) == 1:
                return [Failure(cases[0], str(error))], collections.Counter()
            # If the first and the last fail alike, so does what is between: flags, say.
            ends = [run_batch(columns, [case], sanitize)[0] for case in (cases[0], cases[-1])]
            if all(ends) and ends[0][0].kind == ends[1][0].kind:
                return [end[0] for end in ends], collections.Counter()
            # Otherwise the culprit is found by halving.
            half = len(cases) // 2
            first, counts = run_batch(columns, cases[:half], sanitize)
            second, more = run_batch(columns, cases[half:], sanitize)
            return first + second, counts + more
        counts = collections.Counter()
        for column in columns:
            for ops in count_ops(folder, column).values():
                counts.update(f"{column.name}: {op}" for op in ops)
                counts[f"{column.name}: functions"] += 1
        failures, outcomes = run_apart(objects, cases, sanitize)
        return failures, counts + outcomes


# --- making a failure smaller ---------------------------------------------------------------------

def reduce(failure: Failure, retry: Callable[[Case], Failure | None]) -> Failure:
    """Leaves out part after part, as long as it fails in the same way."""
    shrunk = True
    while shrunk:
        shrunk = False
        for part in PARTS:
            if part in failure.case.without:
                continue
            case = Case(failure.case.seed, (*failure.case.without, part))
            if case.layer().text == failure.case.layer().text:
                continue
            smaller = retry(case)
            if smaller and smaller.kind == failure.kind:
                failure, shrunk = smaller, True
    return failure


def keep(failure: Failure, columns: Sequence[Column], folder: Path) -> Path:
    """Writes the program, with what is wrong and how to see it again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"layer_{failure.case.seed}.mlir"
    without = f" --without {','.join(failure.case.without)}" if failure.case.without else ""
    flags = "".join(f" --column {shlex.quote(str(column))}" for column in columns)
    head = [f"python python/tests/random_programs.py --seed {failure.case.seed} --count 1"
            f"{without}{flags}", *failure.message.splitlines()]
    path.write_text("".join(f"// {line}\n" for line in head) + module_text([failure.case]),
                    encoding="utf-8")
    return path


def run_programs(seed: int, count: int, columns: Sequence[Column], folder: Path,
                 without: Sequence[str] = (), jobs: int | None = None, sanitize: bool = False
                 ) -> tuple[list[tuple[Failure, Path]], collections.Counter]:
    """Runs `count` programs from `seed` on; returns failures, made smaller, and their files."""
    cases = [Case(s, tuple(without)) for s in range(seed, seed + count)]
    batches = [cases[i:i + BATCH] for i in range(0, count, BATCH)]
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda batch: run_batch(columns, batch, sanitize), batches))
    counts = sum((counts for _, counts in outcomes), collections.Counter())

    def retry(case: Case) -> Failure | None:
        return next(iter(run_batch(columns, [case], sanitize)[0]), None)
    kept, kinds = [], collections.Counter()
    for failure in (failure for failures, _ in outcomes for failure in failures):
        kinds[failure.kind] += 1
        if kinds[failure.kind] <= 3:  # The others are likely to be the same.
            failure = reduce(failure, retry)
        kept.append((failure, keep(failure, columns, folder)))
    return kept, counts


def main() -> int:
    if sys.argv[1:] == ["--worker"]:
        return _worker()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--without", default="", help=f"some of {', '.join(PARTS)}, with commas")
    parser.add_argument("--column", action="append", type=Column.parse,
                        help="NAME=FLAGS of moe-opt; stages are separated by |")
    parser.add_argument("--failures", type=Path, default=ROOT / "build/random-programs")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--sanitize", action="store_true",
                        help="run the programs under AddressSanitizer")
    arguments = parser.parse_args()
    columns = arguments.column or default_columns()
    started = time.monotonic()
    without = [part for part in arguments.without.split(",") if part]
    failed, counts = run_programs(arguments.seed, arguments.count, columns, arguments.failures,
                                  without, arguments.jobs, arguments.sanitize)
    for failure, path in failed[:10]:
        print(f"{path}: {failure.message}\n")
    for what, number in sorted(counts.items()):
        print(f"{what}: {number}")
    print(f"{arguments.count} programs from seed {arguments.seed} through "
          f"{', '.join(c.name for c in columns)}: {len(failed)} failed, "
          f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
