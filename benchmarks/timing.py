"""Times of programs side by side, with the speed of the memory and of arithmetic in between."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LEAST_PAIRS, MOST_PAIRS = 6, 400
LONGEST = 120.0  # seconds that LEAST_PAIRS may take: two programs, ten seconds a call
BLOCK_BYTES = 512  # of probe.cpp
PEAK_SECONDS = 0.002  # that a probe of arithmetic takes: as short as the roof's own rounds


class ReadProbe:
    """Bytes a second that all threads of the process read from memory, each time it is called."""

    def __init__(self, runtime: ctypes.CDLL, cache_bytes: int) -> None:
        self._read = runtime.moe_bench_read
        self._read.restype = ctypes.c_uint64
        self._read.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        # Pages that were never written are all the same page of zeros, in the cache.
        words = 4 * cache_bytes // BLOCK_BYTES * BLOCK_BYTES // 8
        buffer = np.ones(words + 8, np.uint64)
        start = -(buffer.ctypes.data // 8) % 8  # of the first line
        self._words = buffer[start:start + words]

    def __call__(self) -> float:
        start = time.perf_counter()
        total = self._read(self._words.ctypes.data, self._words.nbytes // BLOCK_BYTES)
        seconds = time.perf_counter() - start
        if total != self._words.size:
            raise RuntimeError(f"the probe of the memory read {total} of {self._words.size} words")
        return self._words.nbytes / seconds


class PeakProbe:
    """Operations a second of all threads of the process, each time it is called.

    With the fastest instruction that layers of the type use: fused multiply-adds of f32; dot
    products of bf16 or AMX tiles where the machine has them. It leaves the caches as they are.
    """

    def __init__(self, runtime: ctypes.CDLL, dtype: str) -> None:
        self._multiply = runtime.moe_bench_multiply
        self._multiply.restype = ctypes.c_double
        self._multiply.argtypes = [ctypes.c_bool, ctypes.c_double]
        self._is_bf16 = dtype == "bf16"

    def __call__(self) -> float:
        return self._multiply(self._is_bf16, PEAK_SECONDS)


class Times(NamedTuple):
    """What was measured side by side has the same place in each list."""

    seconds: tuple[list[float], ...]  # of each program
    probed: tuple[list[float], ...]  # by each probe


def interleave(runs: Sequence[Callable], inputs: Sequence[tuple], seconds: float,
               rounds: int = 0, probes: Sequence[Callable[[], float]] = ()) -> Times:
    """A B A B …, each round on the next input: `rounds` of them or, at 0, for `seconds`.

    `inputs` has what each program takes. Slow programs get at least LEAST_PAIRS rounds, unless
    these take longer than LONGEST. With probes P and Q it is A B P Q A B P Q ….
    """
    times = Times(tuple([] for _ in runs), tuple([] for _ in probes))

    def once(run: Callable, x) -> float:
        start = time.perf_counter()
        run(x)
        return time.perf_counter() - start

    warm = time.perf_counter()
    for each in inputs:
        for run, x in zip(runs, each):
            once(run, x)
        if time.perf_counter() - warm > seconds / 4:
            break
    start, done = time.perf_counter(), 0
    while done < rounds if rounds else done < MOST_PAIRS:
        for run, x, found in zip(runs, inputs[done % len(inputs)], times.seconds):
            found.append(once(run, x))
        for probe, found in zip(probes, times.probed):
            found.append(probe())
        done, spent = done + 1, time.perf_counter() - start
        if not rounds and spent > (seconds if done >= LEAST_PAIRS else LONGEST):
            break
    return times
