"""Times of two programs side by side, with the memory's speed in between."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LEAST_PAIRS, MOST_PAIRS = 6, 400


class ReadProbe:
    """Bytes a second that all threads of the process read from memory, each time it is called."""

    def __init__(self, runtime: ctypes.CDLL, cache_bytes: int) -> None:
        self._read = runtime.moe_bench_read
        self._read.restype = ctypes.c_uint64
        self._read.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        # Pages that were never written are all the same page of zeros, in the cache.
        self._words = np.ones(4 * cache_bytes // 8, np.uint64)

    def __call__(self) -> float:
        start = time.perf_counter()
        total = self._read(self._words.ctypes.data, self._words.size)
        seconds = time.perf_counter() - start
        if total != self._words.size:
            raise RuntimeError(f"the probe of the memory read {total} of {self._words.size} words")
        return self._words.nbytes / seconds


class Times(NamedTuple):
    """Element i of each was measured side by side."""

    first: list[float]  # seconds
    second: list[float]
    read: list[float]  # bytes a second; empty without a probe


def interleave(first: Callable, second: Callable, inputs: Sequence[tuple], seconds: float,
               pairs: int = 0, probe: Callable[[], float] | None = None) -> Times:
    """A B A B …, each pair on the next input: `pairs` of them or, at 0, for `seconds`.

    `inputs` has what each of the two takes. Slow programs get at least LEAST_PAIRS, unless these
    take five times as long. With a probe it is A B P A B P ….
    """
    times = Times([], [], [])

    def once(run: Callable, x) -> float:
        start = time.perf_counter()
        run(x)
        return time.perf_counter() - start

    warm = time.perf_counter()
    for a, b in inputs:
        once(first, a), once(second, b)
        if time.perf_counter() - warm > seconds / 4:
            break
    start, done = time.perf_counter(), 0
    while done < pairs if pairs else done < MOST_PAIRS:
        a, b = inputs[done % len(inputs)]
        times.first.append(once(first, a))
        times.second.append(once(second, b))
        if probe:
            times.read.append(probe())
        done, spent = done + 1, time.perf_counter() - start
        if not pairs and spent > (seconds if done >= LEAST_PAIRS else 5 * seconds):
            break
    return times
