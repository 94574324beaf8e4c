"""A compiled layer for GPUs, called through its C interface."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from gpu.device import Buffer, DeviceError
from moe.artifact import TYPES, _Tensor

NAME = "layer"


class Call:
    """A call on tensors of the GPU that is ready but for its stream; it owns its workspace."""

    def __init__(self, layer: Layer, device, buffers: Sequence[Buffer]) -> None:
        shapes = [(ctypes.c_int64 * max(len(b.shape), 1))(*b.shape) for b in buffers]
        tensors = [_Tensor(b.address, shape, None, len(b.shape), TYPES[b.type])
                   for b, shape in zip(buffers, shapes)]
        self._packed = (ctypes.POINTER(_Tensor) * len(buffers))(*map(ctypes.pointer, tensors))
        self._layer, self._buffers = layer, buffers
        size = layer.workspace_bytes(self._packed)
        self.workspace = device.allocate((size,), "i8")

    def __call__(self, stream: int) -> None:
        """Puts the kernels into the stream."""
        status = self._layer.function(self._packed, self.workspace.address,
                                      self.workspace.shape[0], stream)
        if not status:
            return
        at = (status >> 8) - 1
        where = f", tensor {at} of shape {self._buffers[at].shape}" if at >= 0 else ""
        raise DeviceError(f"status {status & 255}{where}: {self._layer.error().decode()}")


class Layer:
    """The functions of a shared object."""

    def __init__(self, path: Path) -> None:
        try:
            library = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise DeviceError(f"{path.name} cannot be loaded: {error}") from None
        self.function = getattr(library, f"{NAME}_packed")
        self.function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t,
                                  ctypes.c_void_p]
        self.function.restype = ctypes.c_int32
        self.workspace_bytes = getattr(library, f"{NAME}_workspace_packed")
        self.workspace_bytes.argtypes = [ctypes.c_void_p]
        self.workspace_bytes.restype = ctypes.c_size_t
        self.error = getattr(library, f"{NAME}_error")
        self.error.restype = ctypes.c_char_p
