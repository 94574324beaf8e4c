"""Write tensors to .npy and .safetensors with the standard library alone, for tests of moe-run."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_SIZES = {"F64": 8, "F32": 4, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
_DESCRS = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_FORMATS = {"F64": "d", "F32": "f", "I64": "q", "I32": "i", "U8": "B", "BOOL": "B"}


class Tensor(NamedTuple):
    """A tensor: the name of its type in safetensors, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def make(dtype: str, shape: tuple[int, ...], values: list) -> Tensor:
    """A tensor of `values`, in row-major order; BF16 takes those that it holds exactly."""
    if dtype == "BF16":
        floats = struct.pack(f"<{len(values)}f", *values)
        return Tensor(dtype, shape, b"".join(floats[i + 2:i + 4] for i in range(0, len(floats), 4)))
    return Tensor(dtype, shape, struct.pack(f"<{len(values)}{_FORMATS[dtype]}", *values))


def normal(rng: random.Random, dtype: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Random normal values; of BF16 multiples of 1/16, which it holds exactly."""
    values = [rng.gauss(0, scale) for _ in range(math.prod(shape))]
    if dtype == "BF16":
        values = [max(-8.0, min(8.0, round(value * 16) / 16)) for value in values]
    return make(dtype, shape, values)


def npy_bytes(tensor: Tensor) -> bytes:
    """`tensor` as a .npy file (format 1.0)."""
    shape = "".join(f"{size}, " for size in tensor.shape)
    header = f"{{'descr': '{_DESCRS[tensor.dtype]}', 'fortran_order': False, 'shape': ({shape}), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + tensor.data


def safetensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """`tensors` as a .safetensors file."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        end = offset + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape),
                        "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in tensors.values())


def read_npy(path: Path) -> Tensor:
    """The tensor of a .npy file that moe-run wrote."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<H", raw, 8)
    header = eval(raw[10:10 + length].decode(), {"__builtins__": {}})  # A dict of constants.
    dtype = next(name for name, descr in _DESCRS.items() if descr == header["descr"])
    return Tensor(dtype, header["shape"], raw[10 + length:])


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    body = raw[8 + length:]
    return {name: Tensor(entry["dtype"], tuple(entry["shape"]), body[slice(*entry["data_offsets"])])
            for name, entry in header.items()}
