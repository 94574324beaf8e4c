"""Times on a GPU: CUDA events, a cold second cache, CUDA graphs; and what it can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

LEAST_PAIRS, MOST_PAIRS = 8, 400


class Roof(NamedTuple):
    """What was measured in this run."""

    copy: float  # bytes a second, read and written
    read: float  # bytes a second, read by a sum
    flops: dict[str, float]  # operations a second of cuBLAS's square products: bf16, f32, tf32

    @property
    def bandwidth(self) -> float:
        """The larger: a bound has to be what can be reached at least."""
        return max(self.copy, self.read)

    def peak(self, dtype: str) -> float:
        """Operations a second; a product of f32 may be three of tf32, where these are faster."""
        if dtype == "f32":
            return max(self.flops["f32"], self.flops["tf32"] / 3)
        return self.flops[dtype]

    def bound(self, flops: int, touched: float, dtype: str) -> tuple[float, str]:
        """Seconds below which nothing can be, and what says so: memory or arithmetic."""
        return max((touched / self.bandwidth, "memory"), (flops / self.peak(dtype), "arithmetic"))


class Clock:
    """Seconds of single calls by events; before each, reads push everything out of the cache."""

    def __init__(self, torch, cache_bytes: int) -> None:
        self.torch = torch
        # Read and not written: lines that wait to be written back would slow down what is timed.
        self._flush = torch.ones(4 * cache_bytes // 4, device="cuda")
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def time(self, run: Callable[[], object]) -> float:
        """One call."""
        self._flush.sum()
        self._start.record()
        run()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) * 1e-3


def capture(torch, run: Callable[[], object]) -> tuple[Callable[[], object], object]:
    """The call as a CUDA graph, and its result; RuntimeError where it cannot be one."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is loaded, tuned or allocated by a first call
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph.replay, result


def interleave(time_one: Callable[[Callable], float], runs: Sequence[Callable],
               prepare: Callable[[int], None], seconds: float) -> list[list[float]]:
    """A B A B …: the times of each. Round i begins with prepare(i), which is not timed.

    It takes `seconds`; slow programs get LEAST_PAIRS rounds, unless these take ten times as long.
    """
    times: list[list[float]] = [[] for _ in runs]
    for warm in range(2):
        prepare(warm)
        for run in runs:
            time_one(run)
    start = time.perf_counter()
    for done in range(MOST_PAIRS):
        prepare(done)
        for run, found in zip(runs, times):
            found.append(time_one(run))
        spent = time.perf_counter() - start
        if spent > (seconds if done + 1 >= LEAST_PAIRS else 10 * seconds):
            break
    return times


def _median_time(torch, run: Callable[[], object], count: int = 15) -> float:
    """Without flushing: these are larger than any cache."""
    times = []
    for at in range(count + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        if at >= 3:
            times.append(start.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def measure_roof(torch) -> Roof:
    """Copies and sums of 1 GiB, products of 8192³ (f32: 4096³)."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    size = source.numel() * source.element_size()
    copy = 2 * size / _median_time(torch, lambda: target.copy_(source))
    read = size / _median_time(torch, lambda: source.sum())
    del source, target
    flops = {}
    for dtype, kind, n in (("bf16", torch.bfloat16, 8192), ("tf32", torch.float32, 8192),
                           ("f32", torch.float32, 4096)):
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        a, b = (torch.randn(n, n, device="cuda").to(kind) for _ in range(2))
        out = torch.empty_like(a)
        flops[dtype] = 2 * n ** 3 / _median_time(torch, lambda: torch.mm(a, b, out=out))
    return Roof(copy, read, flops)
