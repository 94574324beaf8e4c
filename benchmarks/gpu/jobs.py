"""Jobs in processes of their own: a kernel that breaks or hangs ends one, and not the run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

WORKER = Path(__file__).with_name("worker.py")


class Outcome(dict):
    """Of an item: `found`, or `failed` with the reason."""


def _run_once(job: dict, prefix: Sequence[str]) -> tuple[int, list[dict], str]:
    """Status, what was written, and the end of standard error."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "job.json"), Path(folder, "out.jsonl")
        source.write_text(json.dumps(job))
        out.touch()
        done = subprocess.run([*prefix, sys.executable, WORKER, source, out], text=True,
                              stdout=subprocess.PIPE if prefix else None, stderr=subprocess.PIPE)
        lines = [json.loads(line) for line in out.read_text().splitlines()]
    return done.returncode, lines, (done.stdout or "") + done.stderr


def run_items(job: dict, say: Callable[[str, dict], None] = lambda item, outcome: None,
              prefix: Sequence[str] = ()) -> dict[str, dict]:
    """Item → outcome. After a process ended early, another goes on with what is left.

    `prefix` is a program that runs the worker; what it reports as failure fails all items.
    """
    outcomes: dict[str, dict] = {}
    left = list(job["items"])
    while left:
        status, lines, errors = _run_once(job | {"items": left}, prefix)
        for line in lines:
            outcomes[line.pop("item")] = line
        if status and not any("failed" in line for line in lines):
            # It ended amid an item, or a sanitizer found something.
            at = left[0] if prefix else next((i for i in left if i not in outcomes), left[-1])
            outcomes[at] = {"failed": f"the process ended with status {status}: "
                                      f"{_last_lines(errors)}"}
        for item in left:
            if item in outcomes:
                say(item, outcomes[item])
        rest = [item for item in left if item not in outcomes]
        if not status:
            for item in rest:
                outcomes[item] = {"failed": "the process said nothing of it"}
            break
        left = rest
    return outcomes


def _last_lines(text: str, count: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-count:]) or "it wrote nothing"
