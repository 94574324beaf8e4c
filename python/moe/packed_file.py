"""Save packed weights, and map them at the next start: files of `moe-run --save-packed`.

They are safetensors files whose metadata has the layout (`moe.layout`, `moe.layout_version`) and the
CRC-32 of each expert's slab (`moe.crc32.TENSOR`, 8 hex digits an expert).
"""

from __future__ import annotations

import ctypes
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from moe.artifact import View
from moe.tensors import make_header, read_entry, read_header

LAYOUT, VERSION = "moe-panel-32", "1"
_TYPES = {"f32": ("F32", 4), "f16": ("F16", 2), "bf16": ("BF16", 2)}
_KINDS = {stored: kind for kind, (stored, _) in _TYPES.items()}


def _bytes_of(view: View) -> np.ndarray:
    size = math.prod(view.shape) * _TYPES[view.type][1]
    return np.ctypeslib.as_array(ctypes.cast(view.address, ctypes.POINTER(ctypes.c_uint8)), (size,))


def _check_shape(where: str, kind: str, shape: tuple[int, ...]) -> None:
    rank, panel = (5, (32, 2)) if kind == "bf16" else (4, (32,))
    if len(shape) != rank or shape[3:] != panel:
        wanted = "x".join(("E", "panels", "K/2" if kind == "bf16" else "K", *map(str, panel)))
        raise ValueError(f"{where}: packed weights of {kind} are {wanted}, this tensor is "
                         f"{'x'.join(map(str, shape))}")


def _checksums(data: np.ndarray, experts: int) -> list[str]:
    slab = data.size // max(experts, 1)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda e: f"{zlib.crc32(data[e * slab:(e + 1) * slab]):08x}",
                             range(experts)))


def save(path: str | Path, packed: Mapping[str, View]) -> None:
    """Write packed tensors by name; the file appears whole or not at all.

    ValueError for tensors that are not packed. The file is for `load`: `moe-run` wants routers and
    biases in it, too.
    """
    metadata = {"moe.layout": LAYOUT, "moe.layout_version": VERSION}
    described, chunks = [], []
    for name, view in packed.items():
        if view.type not in _TYPES:
            raise ValueError(f"{name}: packed weights are f32, f16 or bf16, not {view.type}")
        _check_shape(name, view.type, tuple(view.shape))
        data = _bytes_of(view)
        metadata[f"moe.crc32.{name}"] = " ".join(_checksums(data, view.shape[0]))
        # Whole rows of panels: with the first, all begin at multiples of 64 bytes.
        described.append((name, _TYPES[view.type][0], view.shape, data.size))
        chunks.append(data)
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(make_header(described, metadata))
            for chunk in chunks:
                file.write(chunk)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class PackedFile(Mapping[str, View]):
    """A mapped file of packed weights: their names, and Views of their data, for reading only.

    Keep it as long as the Views are used. ValueError, naming file and tensor, for another layout or
    version, and with `check`, which reads all of it, for damaged weights.
    """

    def __init__(self, path: str | Path, check: bool = True) -> None:
        self.path, self._views = path, {}
        header, metadata, self._data = read_header(path)
        layout, version = metadata.get("moe.layout"), metadata.get("moe.layout_version")
        if (layout, version) != (LAYOUT, VERSION):
            raise ValueError(f"{path}: its weights are packed as {layout!r}, version {version!r}; "
                             f"this program reads {LAYOUT!r}, version {VERSION!r}")
        for name, entry in header.items():
            if f"moe.crc32.{name}" in metadata:  # Others are as they are in checkpoints.
                self._add(name, entry, metadata[f"moe.crc32.{name}"].split(), check)

    def _add(self, name: str, entry: object, recorded: list[str], check: bool) -> None:
        stored, shape, data = read_entry(self.path, name, entry, self._data)
        where = f"{self.path}: {name!r}"
        if stored not in _KINDS:
            raise ValueError(f"{where}: packed weights are F32, F16 or BF16, not {stored}")
        _check_shape(where, _KINDS[stored], shape)
        if check:
            computed = _checksums(data, shape[0])
            if len(recorded) != len(computed):
                raise ValueError(f"{self.path}: {name!r} has {len(recorded)} checksums for "
                                 f"{len(computed)} experts")
            for expert, (is_now, was) in enumerate(zip(computed, recorded)):
                if is_now != was:
                    raise ValueError(f"{self.path}: {name!r} is damaged: the CRC-32 of expert "
                                     f"{expert} is {is_now}, and was {was!r} when it was written")
        self._views[name] = View(data.ctypes.data, shape, _KINDS[stored])

    def __getitem__(self, name: str) -> View:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def load(path: str | Path, check: bool = True) -> PackedFile:
    """Map a file of packed weights."""
    return PackedFile(path, check)
