"""Calls a layer compiled for GPUs through the emulating driver and compares it with the CPU's.

usage: check_artifact.py GPU.so CPU.so NAME DRIVER.so TOKENS HIDDEN RESULT SHAPE:TYPE...

The arguments are random: the first TOKENS×HIDDEN, the others of the shapes given (40x24:bf16), as
is the result TOKENS×HIDDEN of type RESULT. Also calls it in ways that it must refuse.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))

from moe import artifact  # noqa: E402

TOLERANCE = {"f32": 1e-5, "bf16": 1 / 64}
BAD_ALIGNMENT, WORKSPACE, DEVICE_ERROR = 11, 6, 10


def random(generator: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Normal values, with the variance that keeps sums of the last dimension near 1."""
    values = (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values


def decode(stored: np.ndarray) -> np.ndarray:
    """Numbers of any stored type as float64."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored.astype(np.float64)


class Device:
    """Memory of the emulating driver's GPU."""

    def __init__(self, driver: str) -> None:
        self._driver = ctypes.CDLL(driver)

    def _call(self, name: str, *args: object) -> None:
        if getattr(self._driver, name)(*args):
            sys.exit(f"error: {name} failed")

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def upload(self, array: np.ndarray) -> int:
        pointer = self.allocate(array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(pointer),
                   ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), None)
        return pointer

    def download(self, pointer: int, array: np.ndarray) -> np.ndarray:
        self._call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(array.ctypes.data),
                   ctypes.c_uint64(pointer), ctypes.c_size_t(array.nbytes), None)
        return array


def stale_workspace(device: Device, generator: np.random.Generator, size: int) -> int:
    """Memory with small numbers, which pass for counts and ids, as a call before might leave."""
    return device.upload(generator.integers(0, 3, size // 4 + 1).astype(np.int32))


class Layer:
    """The C functions of the artifact, on device pointers."""

    def __init__(self, path: str, name: str) -> None:
        library = ctypes.CDLL(str(Path(path).resolve()))
        self.packed = getattr(library, f"{name}_packed")
        self.packed.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self.workspace = getattr(library, f"{name}_workspace_packed")
        self.workspace.restype = ctypes.c_size_t
        self.workspace.argtypes = [ctypes.c_void_p]
        self.error = getattr(library, f"{name}_error")
        self.error.restype = ctypes.c_char_p


def pack(views: list[artifact.View]) -> ctypes.Array:
    """moe_tensor *const *, with what it points to kept alive."""
    shapes = [(ctypes.c_int64 * len(v.shape))(*v.shape) for v in views]
    tensors = [artifact._Tensor(v.address, shape, None, len(v.shape), artifact.TYPES[v.type])
               for v, shape in zip(views, shapes)]
    return (ctypes.POINTER(artifact._Tensor) * len(views))(*map(ctypes.pointer, tensors))


def expect(what: str, status: int, code: int) -> None:
    if status & 255 != code:
        sys.exit(f"error: {what}: status {status}, expected code {code}")
    print(f"{what}: refused")


def main() -> None:
    gpu, cpu, name, driver, tokens, hidden, kind, *specs = sys.argv[1:]
    generator = np.random.default_rng(0)
    rows = (int(tokens), int(hidden))
    kinds = [kind] + [spec.split(":")[1] for spec in specs]
    shapes = [rows] + [tuple(map(int, spec.split(":")[0].split("x"))) for spec in specs]
    arrays = [random(generator, shape, k) for shape, k in zip(shapes, kinds)]
    expected, result = np.zeros_like(arrays[0]), np.zeros_like(arrays[0])
    artifact.Artifact(cpu, name)(*[artifact.view(a, k if k == "bf16" else None)
                                   for a, k in zip(arrays + [expected], kinds + [kind])])

    device, layer = Device(driver), Layer(gpu, name)
    views = [artifact.View(device.upload(a), a.shape, k)
             for a, k in zip(arrays + [result], kinds + [kind])]
    tensors = pack(views)
    size = layer.workspace(tensors)
    workspace = device.allocate(size)
    stream = 0x5EED
    for _ in range(2):  # The second call finds the code loaded.
        status = layer.packed(tensors, workspace, size, stream)
        if status:
            sys.exit(f"error: status {status}: {layer.error().decode()}")
    device.download(views[-1].address, result)
    scale = np.abs(decode(expected)).max(initial=1e-30)
    error = np.abs(decode(result) - decode(expected)).max(initial=0) / scale
    if not error <= TOLERANCE[kind]:
        sys.exit(f"error: differs by {error:.3g}")
    print(f"{name}, {tokens} tokens: ok, {size > 0 and 'with' or 'without'} a workspace")

    if size:
        layer.packed(tensors, stale_workspace(device, generator, size), size, stream)
        again = device.download(views[-1].address, np.empty_like(result))
        if not np.array_equal(again, result):
            sys.exit("error: the result depends on what the workspace held before")

    moved = [views[0]._replace(address=views[0].address + 2)] + views[1:]
    expect("data that is not aligned", layer.packed(pack(moved), workspace, size, stream),
           BAD_ALIGNMENT)
    if size:
        expect("a small workspace", layer.packed(tensors, workspace, size - 1, stream), WORKSPACE)
        # Host memory is none of the device: the kernel's access is an error of the driver.
        outside = np.zeros(size + 64, np.uint8)
        begin = outside.ctypes.data + (-outside.ctypes.data) % 64
        expect("a workspace of the host", layer.packed(tensors, begin, size, stream), DEVICE_ERROR)
        print(f"in the driver's words: {layer.error().decode()}")


if __name__ == "__main__":
    main()
