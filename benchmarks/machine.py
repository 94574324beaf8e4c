"""The machine of a run: its name, its load, and its roof as moe-run measures it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from moe.artifact import find_compiler

LAYER = Path(__file__).resolve().parents[1] / "test/Zoo/olmoe.mlir"


class Roof(NamedTuple):
    """What the machine can do at most, with this many threads."""

    threads: int
    read: float  # bytes a second from memory
    flops: dict[str, float]  # operations a second: f32, bf16
    cache: int  # bytes of the last-level cache

    def bound(self, flops: int, touched: float, dtype: str) -> tuple[float, str]:
        """Seconds below which nothing can be, and what says so: memory or arithmetic."""
        return max((touched / self.read, "memory"), (flops / self.flops[dtype], "arithmetic"))

    def worth_probing(self, flops: int, touched: float, dtype: str) -> list[str]:
        """`flops`, `read` or both: what bounds this, or would if the other were twice as fast.

        Neither for a layer in the cache, which touches no bytes: its calls take as long as it does
        to wake a thread, and a probe in between is long enough for threads to sleep.
        """
        if not touched:
            return []
        memory, arithmetic = touched / self.read, flops / self.flops[dtype]
        return ["flops"] * (2 * arithmetic > memory) + ["read"] * (2 * memory > arithmetic)

    def meanwhile(self, dtype: str, read: list[float], flops: list[float]) -> Roof:
        """The medians of what was probed, in place of what was probed at all."""
        peak = statistics.median(flops) if flops else self.flops[dtype]
        return self._replace(read=statistics.median(read) if read else self.read,
                             flops=self.flops | {dtype: peak})


@functools.cache
def measure_roof(threads: int) -> Roof:
    """Measured now, in another process; the layer that runs with it is a small one."""
    command = [find_compiler().with_name("moe-run"), LAYER, "--random-weights", "--shape=x=1x40",
               "--benchmark", "--min-time=0.001", f"--threads={threads}", "--json=-"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"moe-run could not measure the roof:\n{done.stderr}")
    roof = json.loads(done.stdout)["benchmark"]["roof"]
    f32 = roof["f32_flops_per_second"]
    return Roof(threads, roof["read_bytes_per_second"],
                {"f32": f32, "bf16": roof["bf16_flops_per_second"] or f32}, roof["cache_bytes"])


def cpu_name() -> str:
    """As the system calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def commit() -> str:
    """The checkout's, with a + where files differ from it; unknown outside of git."""
    if not shutil.which("git"):
        return "unknown"
    command = ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


class ForeignLoad:
    """The cores that other processes keep busy within a `with` block."""

    cores = 0.0

    @staticmethod
    def _busy() -> float:
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> ForeignLoad:
        self._start = time.perf_counter(), self._busy(), time.process_time()
        return self

    def __exit__(self, *_) -> None:
        wall, busy, own = self._start
        wall = max(time.perf_counter() - wall, 1e-9)
        self.cores = max(0.0, (self._busy() - busy - (time.process_time() - own)) / wall)
