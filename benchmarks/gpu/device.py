"""Memory of a GPU: through torch, or through the driver alone, which needs NumPy only.

Both have the same functions. Arrays are NumPy's: f32, or bits of bf16 as uint16.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

Array = np.ndarray
KINDS = {"float32": "f32", "uint16": "bf16"}
STORED = {"f32": np.float32, "bf16": np.uint16}


class DeviceError(RuntimeError):
    """There is no GPU, or it does not do what it is told to."""


def driver_version() -> dict[str, str]:
    """NVIDIA's driver, as the kernel tells it; nothing where it does not."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return {}
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return {"driver": found.group()} if found else {}


class Buffer(NamedTuple):
    """A row-major tensor of the GPU; freed with what `owner` is."""

    address: int
    shape: tuple[int, ...]
    type: str  # of moe.artifact.TYPES
    owner: object


class Torch:
    """A GPU as torch sees it; its stream is torch's current one."""

    is_emulated = False

    def __init__(self) -> None:
        try:
            import torch
        except ImportError:
            raise DeviceError("there is no torch in this Python: install it, or check without "
                              "times by --check --memory=driver") from None
        if not torch.cuda.is_available():
            raise DeviceError(
                "torch finds no GPU: " + ("it was built without CUDA" if not torch.version.cuda
                                          else "is there an NVIDIA GPU, and its driver?"))
        self.torch = torch
        torch.zeros(1, device="cuda")  # makes the context
        properties = torch.cuda.get_device_properties(0)
        self.name, self.multiprocessors = properties.name, properties.multi_processor_count
        self.chip = 10 * properties.major + properties.minor
        self.cache_bytes = getattr(properties, "L2_cache_size", 0) or 64 << 20
        self.software = {"torch": torch.__version__, "CUDA": torch.version.cuda,
                         **driver_version()}

    def _buffer(self, tensor, kind: str) -> Buffer:
        return Buffer(tensor.data_ptr(), tuple(tensor.shape), kind, tensor)

    def upload(self, array: Array) -> Buffer:
        kind = KINDS[array.dtype.name]
        tensor = self.torch.from_numpy(array.view(np.int16) if kind == "bf16" else array)
        if kind == "bf16":
            tensor = tensor.view(self.torch.bfloat16)
        return self._buffer(tensor.cuda(), kind)

    def allocate(self, shape: tuple[int, ...], kind: str) -> Buffer:
        dtype = {"f32": self.torch.float32, "bf16": self.torch.bfloat16,
                 "i8": self.torch.uint8}[kind]
        return self._buffer(self.torch.empty(shape, dtype=dtype, device="cuda"), kind)

    def poison(self, buffer: Buffer) -> None:
        """Every byte 0xff: NaN, and ids that are none."""
        if buffer.owner.numel():  # torch cannot view others as bytes
            buffer.owner.view(self.torch.uint8).fill_(255)

    def download(self, buffer: Buffer) -> Array:
        if buffer.type == "bf16":
            return buffer.owner.view(self.torch.int16).cpu().numpy().view(np.uint16)
        return buffer.owner.cpu().numpy()

    def stream(self) -> int:
        return self.torch.cuda.current_stream().cuda_stream

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()


class _Allocation:
    """cuMemAlloc's, freed with the object."""

    def __init__(self, driver: Driver, size: int) -> None:
        pointer = ctypes.c_uint64()
        driver.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        self.driver, self.address, self.size = driver, pointer.value, size

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self.driver.library.cuMemFree_v2(ctypes.c_uint64(self.address))


class Driver:
    """The first GPU of the CUDA driver, or of the stand-in that MOE_CUDA_DRIVER names."""

    _MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # attributes, by cuda.h

    def __init__(self) -> None:
        name = os.environ.get("MOE_CUDA_DRIVER") or "libcuda.so.1"
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            raise DeviceError(f"the CUDA driver {name!r} cannot be opened: {error}; run this on a "
                              "machine with an NVIDIA GPU and its driver") from None
        self.is_emulated = bool(os.environ.get("MOE_CUDA_DRIVER"))
        self.call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.name = self._device_name(device)
        self.multiprocessors = self._attribute(self._MULTIPROCESSORS, device)
        self.chip = 10 * self._attribute(self._MAJOR, device) + self._attribute(self._MINOR, device)
        self.software = {} if self.is_emulated else driver_version()

    def _device_name(self, device: ctypes.c_int) -> str:
        if self.is_emulated:
            return "no GPU: the emulation of a stand-in driver"
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), device)
        return text.value.decode()

    def _attribute(self, attribute: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        return value.value

    def call(self, name: str, *arguments: object) -> None:
        """A function of the driver; what it refuses is told in its own words."""
        status = getattr(self.library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(status, ctypes.byref(text))
            raise DeviceError(f"{name}: {(text.value or b'unknown error').decode()}")

    def upload(self, array: Array) -> Buffer:
        buffer = self.allocate(array.shape, KINDS[array.dtype.name])
        self._write(buffer, np.ascontiguousarray(array))
        return buffer

    def allocate(self, shape: tuple[int, ...], kind: str) -> Buffer:
        size = int(np.prod(shape)) * {"f32": 4, "bf16": 2, "i8": 1}[kind]
        owner = _Allocation(self, size)
        return Buffer(owner.address, shape, kind, owner)

    def _write(self, buffer: Buffer, array: Array) -> None:
        self.call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(buffer.address),
                  ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), None)
        self.synchronize()  # the array may go

    def poison(self, buffer: Buffer) -> None:
        """Every byte 0xff: NaN, and ids that are none."""
        self._write(buffer, np.full(buffer.owner.size, 255, np.uint8))

    def download(self, buffer: Buffer) -> Array:
        array = np.empty(buffer.shape, STORED[buffer.type])
        self.call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(array.ctypes.data),
                  ctypes.c_uint64(buffer.address), ctypes.c_size_t(array.nbytes), None)
        self.synchronize()
        return array

    def stream(self) -> int:
        return 0

    def synchronize(self) -> None:
        self.call("cuStreamSynchronize", None)


MEMORIES = {"torch": Torch, "driver": Driver}
