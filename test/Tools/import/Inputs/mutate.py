"""Run moe-import on mutations of a file, and check that it never does anything but its duty.

    python mutate.py FILE SEED COUNT -- moe-import ... -o OUT

FILE (config.json, or a family file) is changed at random, COUNT times, and put back at the end.
Each run must succeed, and write OUT, or end with exit code 1 and a message, and write nothing.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

TIMEOUT = 60
VALUES = [None, True, False, 0, 1, -1, 63, 65, 2**31 - 1, 2**31, 2**63, 2**64, -2**63, 1e308, 0.5,
          "", "silu", "bfloat16", "\u0000", "é" * 300, "{{H}}", [], [0], [[]], {}, {"a": [1]},
          float("nan"), float("inf")]


def mutate_bytes(text: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut, copied or put in."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([1, 1, 2, 5, 40]))
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + bytes(rng.randrange(256) for _ in range(end - at)) + text[end:]
        elif kind == 1:
            text = text[:at] + text[end:]
        elif kind == 2:
            text = text[:at] + text[at:end] * rng.randint(2, 4) + text[end:]
        elif kind == 3:
            extra = rng.choice(b'{}[]",:0123456789-.eE \n\\/tfn#^>!')
            text = text[:at] + bytes([extra]) * rng.choice([1, 1, 3, 100_000]) + text[at:]
        else:
            text = text[:at]
    return text


def mutate_values(text: bytes, rng: random.Random) -> bytes:
    """Valid JSON: members of the object at the top with other values, or gone."""
    try:
        config = json.loads(text)
    except ValueError:
        return mutate_bytes(text, rng)
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(list(config))
        if rng.random() < 0.2:
            del config[name]
        else:
            config[name] = rng.choice(VALUES)
    return json.dumps(config, ensure_ascii=rng.random() < 0.5).encode()


def check(command: list[str], out: Path) -> str | None:
    """What is wrong with one run of `command`, if anything is."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        run = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"no end after {TIMEOUT} s"
    if run.returncode == 0:
        return None if list(out.glob("layer_*.mlir")) else "success, but nothing is written"
    if run.returncode != 1:
        return f"exit code {run.returncode}: {run.stderr[-2000:]!r}"
    if not run.stderr.startswith(b"moe-import: error: ") or len(run.stderr) < 40:
        return f"exit code 1, with the message {run.stderr!r}"
    return "an error, but something is written" if out.exists() else None


def main() -> int:
    """Run all mutations; print those that went wrong."""
    path, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    command = sys.argv[sys.argv.index("--") + 1:]
    out = Path(command[-1])
    original = path.read_bytes()
    failures = successes = 0
    try:
        for number in range(count):
            rng = random.Random(seed * 1_000_003 + number)
            mutate = rng.choice([mutate_bytes, mutate_values])
            path.write_bytes(mutate(original, rng))
            problem = check(command, out)
            successes += problem is None and out.exists()
            if problem:
                failures += 1
                kept = path.with_name(f"{path.name}.failed-{number}")
                kept.write_bytes(path.read_bytes())
                print(f"seed {seed}, number {number}, kept as {kept}: {problem}")
    finally:
        path.write_bytes(original)
    print(f"seed {seed}: {count} mutations of {path.name}, {successes} of them harmless, "
          f"{failures} failures")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
