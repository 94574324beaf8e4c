"""What a call of ours adds to the memory of the process, next to what it is said to need."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

LARGE_PAGE = 2 << 20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


class Growth(NamedTuple):
    """Bytes; the weights were in memory before, and nothing of the rest."""

    workspace: int  # as the header says
    result: int
    grown: int  # from before the call to its peak

    def beyond(self) -> int:
        """What is neither: stacks and code, if all is well."""
        return self.grown - self.workspace - self.result


def allowed_beyond(threads: int) -> int:
    """For the stack of each thread (0.2 MB, 0.8 MB with a prologue), and for code: a page each,
    which may be a large one."""
    return (threads + 1) * LARGE_PAGE


def fresh(size: int) -> np.ndarray:
    """Bytes that no page of memory stands for yet, unlike those that malloc hands out again."""
    pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, np.uint8)[:size]


def _status(key: str) -> int:
    """A size in /proc/self/status, in bytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {key}")


def resident() -> int:
    """Bytes of memory that the process has now."""
    return _status("VmRSS")


def growth(call: Callable[[], object]) -> int:
    """By how much a call raises the process's memory at its peak."""
    CLEAR_REFS.write_text(RESET_PEAK)
    before = resident()
    call()
    return max(0, _status("VmHWM") - before)
