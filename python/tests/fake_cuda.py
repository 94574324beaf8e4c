"""A GPU for tests of the harness alone: the stand-in driver's memory, and torch.cuda on the CPU.

Its clock ticks a microsecond a call, so that nothing depends on time.
"""

from __future__ import annotations

import contextlib
import ctypes
import types

import numpy as np
import torch

from gpu.device import KINDS, Buffer, Driver

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "i8": torch.uint8}


class Event:
    """A tick."""

    ticks = 0

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.ticks += 1
        self.at = Event.ticks

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, other: Event) -> float:
        return (other.at - self.at) * 1e-3


class Stream:
    """All there is."""

    cuda_stream = 0x5EED

    def wait_stream(self, other: Stream) -> None:
        pass


class Graph:
    """Counts its replays."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1


class Memory(Driver):
    """With torch's tensors on what the driver allocates."""

    def __init__(self) -> None:
        super().__init__()
        self.torch, self.cache_bytes = torch, 1 << 16

    def allocate(self, shape: tuple[int, ...], kind: str) -> Buffer:
        owner = super().allocate(shape, kind).owner
        raw = (ctypes.c_char * max(owner.size, 1)).from_address(owner.address)
        raw.owner = owner  # which lives as long as the tensor
        tensor = torch.frombuffer(raw, dtype=torch.uint8)[:owner.size]
        return Buffer(owner.address, shape, kind, tensor.view(DTYPES[kind]).view(shape))

    def upload(self, array: np.ndarray) -> Buffer:
        buffer = self.allocate(array.shape, KINDS[array.dtype.name])
        ctypes.memmove(buffer.address, array.ctypes.data, array.nbytes)
        return buffer


def install(monkeypatch) -> None:
    """torch.cuda, and tensors that are asked for on it."""
    for name, value in (("Event", Event), ("Stream", Stream), ("CUDAGraph", Graph),
                        ("current_stream", Stream), ("empty_cache", lambda: None),
                        ("stream", contextlib.nullcontext), ("graph", contextlib.nullcontext)):
        monkeypatch.setattr(torch.cuda, name, value)
    properties = types.SimpleNamespace(name="a fake", multi_processor_count=4, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    for name in ("ones", "zeros", "randn", "empty"):
        make = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *shape, make=make, device=None, **rest:
                            make(*shape, **rest))
