"""Run GPU kernels on the CPU: `moe-opt --moe-emulate-nvvm`, clang, and libmoe_emulation by ctypes.

    kernels = emulation.compile_kernels(text)     # a module with a gpu.module in llvm and nvvm ops
    kernels.launch("sum", grid=4, block=128, args=[x, out, np.int32(7)], shared=4096, seed=3)

Arrays are passed as pointers to their memory and may be written; what lies outside of all of them
must not be touched. docs/Emulation.md says what the emulation finds.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parent.parent.parent


class EmulationError(RuntimeError):
    """A kernel that cannot be compiled, or that did what a kernel must not do."""


class _Buffer(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_uint64),
                ("writable", ctypes.c_uint32), ("name", ctypes.c_char_p)]


class _Launch(ctypes.Structure):
    _fields_ = [("grid", ctypes.c_uint32 * 3), ("block", ctypes.c_uint32 * 3),
                ("cluster", ctypes.c_uint32 * 3), ("dynamic_shared", ctypes.c_uint32),
                ("resident_blocks", ctypes.c_uint32), ("seed", ctypes.c_uint64),
                ("buffers", ctypes.POINTER(_Buffer)), ("num_buffers", ctypes.c_uint32),
                ("shared_limit", ctypes.c_uint32), ("cooperative", ctypes.c_uint32)]


def build_folder() -> Path:
    """Where bin/moe-opt and lib/libmoe_emulation.so are: MOE_BUILD, or build/."""
    return Path(os.environ.get("MOE_BUILD", _ROOT / "build"))


def _run(command: Sequence[str], text: bytes) -> bytes:
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    if done.returncode:
        raise EmulationError(f"{Path(command[0]).name} failed: {done.stderr.decode()}")
    return done.stdout


def _dims(value: int | Sequence[int]) -> tuple[int, int, int]:
    given = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
    return (*given, 1, 1, 1)[:3]


def _value(argument: np.ndarray | np.generic | bytes | ctypes.Array) -> ctypes._SimpleCData | ctypes.Array:
    """Memory that holds an argument."""
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    if isinstance(argument, ctypes.Array):
        return argument
    data = argument if isinstance(argument, bytes) else argument.tobytes()
    return ctypes.create_string_buffer(data, len(data))


def lowering(text: str) -> tuple[str, ...]:
    """Passes that bring scf, arith, cf, func, index and memref ops of a gpu.module to the llvm
    dialect. nvvm ops stay: what convert-to-llvm would make of some is inline assembly."""
    used = [d for d in ("arith", "func", "index", "memref") if f"{d}." in text]
    return ("convert-scf-to-cf", f"convert-to-llvm{{filter-dialects={','.join(['cf', *used])}}}",
            "reconcile-unrealized-casts")


def kernels_of(text: str) -> str:
    """A module with the gpu.module of a printed one, and what that names: without its host code,
    which no emulation runs."""
    aliases = [line for line in text.splitlines() if line.startswith("#")]
    begin = text.index("  gpu.module ")
    kernels = text[begin:text.index("\n  }", begin)]
    return "\n".join([*aliases, "module attributes {gpu.container_module} {", kernels, "  }", "}", ""])


def compile_kernels(text: str, passes: Sequence[str] = ()) -> Kernels:
    """Kernels of a module, after `passes` of moe-opt on each gpu.module (see `lowering`, if its
    ops are not in the llvm and nvvm dialects yet)."""
    build = build_folder()
    lowering = f"gpu.module({','.join(passes)})," if passes else ""
    pipeline = f"builtin.module({lowering}moe-emulate-nvvm)"
    lowered = _run([str(build / "bin" / "moe-opt"), f"--pass-pipeline={pipeline}"], text.encode())
    ir = _run(["mlir-translate-22", "--mlir-to-llvmir", "--allow-unregistered-dialect"], lowered)
    folder = tempfile.TemporaryDirectory()
    library = Path(folder.name) / "kernels.so"
    _run(["clang-22", "-x", "ir", "-", "-O1", "-w", "-fPIC", "-shared", "-o", str(library),
          f"-L{build / 'lib'}", f"-Wl,-rpath,{build / 'lib'}", "-lmoe_emulation"], ir)
    return Kernels(library, folder)


# CUtensorMapDataType of what kernels copy.
_MAP_TYPES = {"f16": 6, "f32": 7, "bf16": 9}


def encode_tensor_map(data: np.ndarray, kind: str, offset: int, sizes: Sequence[int],
                      strides: Sequence[int], box: Sequence[int], swizzle: int) -> bytes:
    """128 bytes that a kernel takes by value: a tensor of `kind` that begins `offset` elements into
    `data`, and the box of it that one copy takes. Sizes, strides and box are of elements, the
    contiguous dimension last; `swizzle` is 0, 32, 64 or 128 bytes."""
    if strides[-1] != 1:
        raise EmulationError(f"a tensor map's last stride is {strides[-1]}, not 1")
    library = ctypes.CDLL(str(build_folder() / "lib" / "libmoe_emulation.so"))
    rank, size = len(sizes), 4 if kind == "f32" else 2
    memory = (ctypes.c_uint64 * 16)()
    dims = (ctypes.c_uint64 * rank)(*reversed(sizes))
    steps = (ctypes.c_uint64 * rank)(*[size * s for s in reversed(strides)][1:], 0)
    boxes = (ctypes.c_uint32 * rank)(*reversed(box))
    ones = (ctypes.c_uint32 * rank)(*[1] * rank)
    base = ctypes.c_void_p(data.ctypes.data + size * offset)
    swizzles = {0: 0, 32: 1, 64: 2, 128: 3}
    if library.moe_emu_encode_tensor_map(memory, _MAP_TYPES[kind], rank, base, dims, steps, boxes,
                                         ones, 0, swizzles[swizzle]):
        raise EmulationError(f"no tensor map for sizes {list(sizes)}, strides {list(strides)}, "
                             f"box {list(box)}")
    return bytes(memory)


class Kernels:
    """Compiled kernels; the files go when this does."""

    def __init__(self, library: Path, folder: tempfile.TemporaryDirectory):
        self._folder = folder
        self._library = ctypes.CDLL(str(library))
        self._emulation = ctypes.CDLL(str(build_folder() / "lib" / "libmoe_emulation.so"))
        self._emulation.moe_emu_error.restype = ctypes.c_char_p

    def launch(self, name: str, grid: int | Sequence[int], block: int | Sequence[int],
               args: Sequence[np.ndarray | np.generic | bytes | ctypes.Array], *,
               cluster: int | Sequence[int] = (0, 0, 0), shared: int = 0, seed: int = 0,
               resident: int = 0, shared_limit: int = 0, cooperative: bool = False,
               buffers: Sequence[np.ndarray] = ()) -> None:
        """Runs all blocks of the grid. An argument is an array (its address), a numpy scalar, or
        bytes (a struct or tensor map by value). `buffers` are arrays that the kernel reaches in
        other ways. `cooperative`: all blocks run at once, and races in global memory are errors.
        Raises EmulationError with the text of what went wrong."""
        arrays = [a for a in args if isinstance(a, np.ndarray)] + list(buffers)
        listed = (_Buffer * len(arrays))(*[
            _Buffer(a.ctypes.data, a.nbytes, a.flags.writeable, None) for a in arrays])
        values = [_value(a) for a in args]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*[ctypes.addressof(v) for v in values])
        launch = _Launch(_dims(grid), _dims(block), _dims(cluster), shared, resident, seed, listed,
                         len(arrays), shared_limit, cooperative)
        record = ctypes.c_char.in_dll(self._library, f"moe_emu_kernel_{name}")
        if self._emulation.moe_emu_launch(ctypes.byref(record), ctypes.byref(launch), pointers):
            raise EmulationError(self._emulation.moe_emu_error().decode())
