"""Save packed weights, and map them at the next start: files of `moe-run --save-packed`.

They are safetensors files whose metadata has the layout (`moe.layout`, `moe.layout_version`) and the
CRC-32 of each expert's slab (`moe.crc32.TENSOR`, 8 hex digits an expert).
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from moe.artifact import View

LAYOUT, VERSION = "moe-panel-32", "1"
_TYPES = {"f32": ("F32", 4), "f16": ("F16", 2), "bf16": ("BF16", 2)}
_KINDS = {stored: kind for kind, (stored, _) in _TYPES.items()}


def _bytes_of(view: View) -> np.ndarray:
    size = math.prod(view.shape) * _TYPES[view.type][1]
    return np.ctypeslib.as_array(ctypes.cast(view.address, ctypes.POINTER(ctypes.c_uint8)), (size,))


def _checksums(data: np.ndarray, experts: int) -> list[str]:
    slab = data.size // max(experts, 1)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda e: f"{zlib.crc32(data[e * slab:(e + 1) * slab]):08x}",
                             range(experts)))


def save(path: str | Path, packed: Mapping[str, View]) -> None:
    """Write packed tensors by name; the file appears whole or not at all."""
    header: dict[str, object] = {}
    metadata = {"moe.layout": LAYOUT, "moe.layout_version": VERSION}
    chunks, offset = [], 0
    # The widest elements first, so that all are aligned.
    for name, view in sorted(packed.items(), key=lambda item: item[1].type != "f32"):
        if view.type not in _TYPES:
            raise ValueError(f"{name}: packed weights are f32, f16 or bf16, not {view.type}")
        data = _bytes_of(view)
        metadata[f"moe.crc32.{name}"] = " ".join(_checksums(data, view.shape[0]))
        header[name] = {"dtype": _TYPES[view.type][0], "shape": list(view.shape),
                        "data_offsets": [offset, offset + data.size]}
        chunks.append(data)
        offset += data.size
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
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
        self.path, self._views, self._data = path, {}, {}
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < 8:
                raise ValueError(f"{path}: too short for a safetensors file")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack("<Q", self._map[:8])
        if length > len(self._map) - 8:
            raise ValueError(f"{path}: header of {length} bytes, but the file has {len(self._map)}")
        try:
            header = json.loads(self._map[8:8 + length])
        except ValueError:
            header = None
        metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
        if not isinstance(metadata, dict):
            raise ValueError(f"{path}: the header isn't a JSON object")
        layout, version = metadata.get("moe.layout"), metadata.get("moe.layout_version")
        if (layout, version) != (LAYOUT, VERSION):
            raise ValueError(f"{path}: its weights are packed as {layout!r}, version {version!r}; "
                             f"this program reads {LAYOUT!r}, version {VERSION!r}")
        for name, entry in header.items():
            if f"moe.crc32.{name}" in metadata:  # Others are as they are in checkpoints.
                self._add(name, entry, 8 + length, metadata[f"moe.crc32.{name}"].split(), check)

    def _add(self, name: str, entry: dict, start: int, recorded: list[str], check: bool) -> None:
        try:
            kind, shape = _KINDS[entry["dtype"]], tuple(entry["shape"])
            begin, end = (start + offset for offset in entry["data_offsets"])
            fits = (start <= begin <= end <= len(self._map) and min(shape) >= 0 and
                    end - begin == math.prod(shape) * _TYPES[kind][1])
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits or len(shape) != (5 if kind == "bf16" else 4):
            raise ValueError(f"{self.path}: {name!r} is no packed tensor within the file: {entry!r}")
        data = np.frombuffer(self._map, np.uint8, end - begin, begin)
        if check:
            computed = _checksums(data, shape[0])
            if len(recorded) != len(computed):
                raise ValueError(f"{self.path}: {name!r} has {len(recorded)} checksums for "
                                 f"{len(computed)} experts")
            for expert, (is_now, was) in enumerate(zip(computed, recorded)):
                if is_now != was:
                    raise ValueError(f"{self.path}: {name!r} is damaged: the CRC-32 of expert "
                                     f"{expert} is {is_now}, and was {was!r} when it was written")
        self._data[name] = data
        self._views[name] = View(data.ctypes.data, shape, kind)

    def __getitem__(self, name: str) -> View:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def load(path: str | Path, check: bool = True) -> PackedFile:
    """Map a file of packed weights."""
    return PackedFile(path, check)
