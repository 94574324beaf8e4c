"""Jobs in processes of their own: a kernel that breaks or hangs ends one, and not the run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

WORKER = Path(__file__).with_name("worker.py")
PAUSE = 0.05  # seconds between looks at what a worker has written


class _Worker:
    """A process that works on items; `status` and `errors` are known when it has ended."""

    def __init__(self, job: dict, prefix: Sequence[str], folder: Path) -> None:
        self.status, self.errors = None, ""
        self._out, self._log = folder / "out.jsonl", folder / "log"
        self._out.touch()
        (folder / "job.json").write_text(json.dumps(job))
        with open(self._log, "wb") as log:
            # A sanitizer writes its findings to standard output.
            self._process = subprocess.Popen(
                [*prefix, sys.executable, WORKER, folder / "job.json", self._out],
                stdout=log if prefix else None, stderr=log)

    def lines(self) -> Iterator[dict]:
        """What it finds, as soon as it is written."""
        with open(self._out, encoding="utf-8") as out:
            pending = ""
            try:
                while True:
                    status = self._process.poll()  # before the last look
                    pending += out.read()
                    *whole, pending = pending.split("\n")
                    yield from map(json.loads, whole)
                    if status is not None:
                        break
                    time.sleep(PAUSE)
            finally:
                if self._process.poll() is None:
                    self._process.kill()
                self._process.wait()
        self.status = status
        tail = self._log.read_text(errors="replace").strip().splitlines()[-12:]
        self.errors = "\n".join(tail) or "it wrote nothing"


def run_items(job: dict, prefix: Sequence[str] = ()) -> Iterator[tuple[str, dict]]:
    """Each item with its outcome: `found`, or `failed` with the reason.

    After a process ended early, another goes on with what is left. `prefix` is a program that runs
    the worker of a single item; its status decides, too.
    """
    left = list(job["items"])
    while left:
        told: dict[str, dict] = {}
        with tempfile.TemporaryDirectory() as folder:
            worker = _Worker(job | {"items": left}, prefix, Path(folder))
            for line in worker.lines():
                item = line.pop("item")
                told[item] = line
                if not prefix:
                    yield item, line
        rest = [item for item in left if item not in told]
        has_failed = any("failed" in line for line in told.values())
        failure = {"failed": f"the process ended with status {worker.status}: {worker.errors}"}
        if prefix:
            for item in left:
                told_well = item in told and (has_failed or not worker.status)
                yield item, told[item] if told_well else failure
            return
        if rest and not has_failed:  # it ended amid an item
            yield rest.pop(0), failure
        left = rest
