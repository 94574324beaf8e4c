"""Compile a layer with moe-compile, load it with ctypes, and call it on memory that others own.

The interface is that of `include/moe/Runtime/moe.h`: `NAME_packed(tensors, workspace, bytes)`, and
`NAME_workspace_packed(tensors)` for the bytes.
numpy arrays are passed without a copy; whoever has other tensors passes `View`s of them.

A layer compiled with `--pack-weights` takes packed weights, which its artifact makes:

    layer = compile_layer(ir, "layer", ("--pack-weights",))
    layer.pack(*sources, *packed)                   # all experts, into tensors of packed_shape(...)
    layer.pack_expert(17, *own_sources, *packed)    # one of them, in place
    layer(x, router, *packed, y)

`moe.packed_file` saves and maps them.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

TYPES = {"f64": 0, "f32": 1, "f16": 2, "bf16": 3, "i64": 4, "i32": 5, "i16": 6, "i8": 7, "i1": 8}
_NUMPY = {"float64": "f64", "float32": "f32", "float16": "f16", "int64": "i64", "int32": "i32",
          "int16": "i16", "int8": "i8", "bool": "i1"}
_STATUS = {1: "a null pointer", 2: "another rank", 3: "another element type", 4: "another shape",
           5: "is not row-major", 6: "the workspace is too small", 7: "tokens times k reach 2^31",
           8: "this machine lacks instructions that the code needs (or that MOE_ISA asks for)",
           9: "MOE_ISA names an instruction set that it was not compiled for",
           12: "has no slab for this expert"}
PANEL = 32  # columns of packed weights that lie beside each other


class View(NamedTuple):
    """A row-major tensor that somebody else owns and keeps alive during the call."""

    address: int
    shape: tuple[int, ...]
    type: str  # a key of TYPES


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("rank", ctypes.c_int32),
                ("type", ctypes.c_int32)]


def view(array: np.ndarray, kind: str | None = None) -> View:
    """A View of a row-major numpy array; `kind` "bf16" reads uint16 bit patterns as bfloat16."""
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of shape {array.shape} is not row-major; copy it first")
    return View(array.ctypes.data, array.shape, kind or _NUMPY[array.dtype.name])


def packed_shape(experts: int, columns: int, length: int, kind: str) -> tuple[int, ...]:
    """The shape of packed weights: `columns` of a product, each a sum of `length` elements."""
    if kind not in ("bf16", "f16", "f32"):
        raise ValueError(f"weights of {kind} are not packed; bf16, f16 and f32 are")
    panels = -(-columns // PANEL)
    if kind == "bf16":
        return experts, panels, -(-length // 2), PANEL, 2
    return experts, panels, length, PANEL


def _aligned(size: int) -> np.ndarray:
    """`size` bytes at a multiple of 64."""
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size]


def _pack(views: Sequence[View]) -> ctypes.Array:
    """The array of tensors that a call takes."""
    shapes = [(ctypes.c_int64 * max(len(v.shape), 1))(*v.shape) for v in views]
    tensors = [_Tensor(v.address, shape, None, len(v.shape), TYPES[v.type])
               for v, shape in zip(views, shapes)]
    return (ctypes.POINTER(_Tensor) * len(views))(*map(ctypes.pointer, tensors))


class Artifact:
    """A function of a shared object that moe-compile made. Calls are re-entrant.

    `pack` is the function that packs its weights; None without `--pack-weights`.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.path, self.name = Path(path), name
        self.pack: Artifact | None = None
        self._expert = None  # of a function that packs
        try:
            library = ctypes.CDLL(str(Path(path).resolve()))
            self._function = getattr(library, f"{name}_packed")
            self._workspace = getattr(library, f"{name}_workspace_packed")
        except (OSError, AttributeError) as error:
            raise RuntimeError(f"{path}: no compiled function {name!r} ({error})") from None
        self._function.restype = ctypes.c_int32
        self._function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        self._workspace.restype = ctypes.c_size_t
        self._workspace.argtypes = [ctypes.c_void_p]
        if hasattr(library, f"{name}_pack_expert_packed"):
            self.pack = Artifact(path, f"{name}_pack")
            self.pack._expert = getattr(library, f"{name}_pack_expert_packed")
            self.pack._expert.restype = ctypes.c_int32
            self.pack._expert.argtypes = [ctypes.c_int64, *self._function.argtypes]

    def pack_expert(self, expert: int, *views: View) -> None:
        """Replace one expert: its own sources, 1×…, then the packed tensors of all experts.

        Nothing but its slabs is written, so calls may go on whose tokens do not use it.
        """
        if self.pack is None:
            raise ValueError(f"{self.path.name}: {self.name} was compiled without --pack-weights")
        packed = _pack(views)
        workspace = _aligned(self.pack._workspace(packed))  # of the sources: one expert's
        self.pack._check(self.pack._expert(expert, packed, workspace.ctypes.data, workspace.size),
                         views)

    def __call__(self, *views: View) -> None:
        """Run on arguments, then results; results are written in place."""
        self.bind(*views)()

    def workspace_bytes(self, *views: View) -> int:
        """How much memory a call on these tensors works in."""
        return self._workspace(_pack(views))

    def bind(self, *views: View, workspace: np.ndarray | None = None,
             caller: Callable[..., int] | None = None) -> Callable[[], None]:
        """A call on these tensors that is all prepared, for those who make it often.

        One thread at a time may make it: it owns its workspace, or works in the one it is given
        (bytes, at a multiple of 64). `caller` makes the call: a function of C that takes the
        address of the layer's and its arguments, and returns its status.
        """
        packed = _pack(views)
        if workspace is None:
            workspace = _aligned(self._workspace(packed))
        address, size = workspace.ctypes.data, workspace.size
        function = (functools.partial(caller, ctypes.cast(self._function, ctypes.c_void_p))
                    if caller else self._function)

        def call() -> None:
            self._check(function(packed, address, size), views)
        call.workspace = workspace  # lives as long as the call
        return call

    def _check(self, status: int, views: Sequence[View]) -> None:
        if status:
            code, at = status & 255, (status >> 8) - 1
            what = f"tensor {at}, {views[at].shape} {views[at].type}: " if at >= 0 else ""
            raise ValueError(f"{self.path.name}: {what}{_STATUS.get(code, f'status {code}')}")


def find_compiler() -> Path:
    """moe-compile: $MOE_COMPILE, then the PATH, then the build folder of this checkout."""
    here = Path(__file__).resolve().parents[2] / "build/bin/moe-compile"
    for candidate in (os.environ.get("MOE_COMPILE"), shutil.which("moe-compile"), here):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise FileNotFoundError("moe-compile is not to be found: build it, put it on the PATH, or "
                            "set MOE_COMPILE to it")


def compile_layer(ir: str, name: str, options: tuple[str, ...] = ()) -> Artifact:
    """The function `name` of the text `ir`, compiled once and kept in $MOE_CACHE (or ~/.cache/moe).

    The file's name holds a digest of text, options and compiler, so that nothing stale is used.
    """
    compiler = find_compiler()
    stamp = compiler.stat()
    key = repr((ir, name, options, str(compiler), stamp.st_size, stamp.st_mtime_ns)).encode()
    cache = Path(os.environ.get("MOE_CACHE") or Path.home() / ".cache/moe")
    artifact = cache / f"{name}-{hashlib.sha256(key).hexdigest()[:20]}.so"
    if not artifact.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            source, made = Path(folder) / f"{name}.mlir", Path(folder) / artifact.name
            source.write_text(ir)
            command = [compiler, source, "-o", made, *options]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"moe-compile failed on {name}:\n{done.stderr}")
            os.replace(made, artifact)  # another process may have been faster: the same content
    return Artifact(artifact, name)
