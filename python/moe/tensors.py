"""Read and write `.safetensors` files with numpy alone.

numpy has no bfloat16 and no fp8: BF16, F8_E4M3 and F8_E5M2 tensors are read as float32 (which holds
them exactly), and `save` writes those that are named in `bf16` as BF16, rounded to nearest even.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}
_STORED = {**_TYPES, "BF16": np.uint16, "F8_E4M3": np.uint8, "F8_E5M2": np.uint8}
_NAMES = {np.dtype(t): name for name, t in _TYPES.items()}
_MAX_HEADER = 100_000_000


def bf16_bits(values: np.ndarray) -> np.ndarray:
    """The BF16 bit patterns (uint16) of `values`, rounded to nearest even; NaN stays NaN."""
    values = np.asarray(values, np.float32)
    bits = np.ascontiguousarray(values).view(np.uint32).reshape(values.shape)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def from_bf16_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 values of BF16 bit patterns (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_bf16(values: np.ndarray) -> np.ndarray:
    """float32 values, each rounded to the nearest BF16 (ties to even)."""
    return from_bf16_bits(bf16_bits(values))


def _fp8_table(exponent_bits: int, finite: bool) -> np.ndarray:
    """The float32 values of all 256 codes; `finite` formats have NaN in place of the infinities."""
    mantissa_bits = 7 - exponent_bits
    code = np.arange(128)
    exponent, mantissa = code >> mantissa_bits, code & (1 << mantissa_bits) - 1
    bias = (1 << exponent_bits - 1) - 1
    value = np.where(exponent > 0, mantissa + (1 << mantissa_bits), mantissa).astype(np.float32)
    value = np.ldexp(value, np.maximum(exponent, 1) - bias - mantissa_bits)
    if finite:
        value[127] = np.nan
    else:
        top = exponent == (1 << exponent_bits) - 1
        value[top] = np.where(mantissa[top] > 0, np.nan, np.inf)
    return np.concatenate([value, -value]).astype(np.float32)


_FP8 = {"F8_E4M3": _fp8_table(4, finite=True), "F8_E5M2": _fp8_table(5, finite=False)}


#: In the mapped file data begin at a multiple of this many bytes: a cache line.
ALIGNMENT = 64


def read_header(path: str | Path) -> tuple[dict[str, object], dict[str, str], np.ndarray]:
    """The entries of a `.safetensors` file by tensor, its metadata, and its data, mapped (bytes).

    ValueError, naming the file, for what is no header; `read_entry` looks at the entries.
    """
    data = np.memmap(path, np.uint8, "r") if Path(path).stat().st_size else np.empty(0, np.uint8)
    if data.size < 8:
        raise ValueError(f"{path}: {data.size} bytes, too short for a safetensors header")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    if length > min(_MAX_HEADER, data.size - 8):
        raise ValueError(f"{path}: header of {length} bytes, but the file has {data.size}")
    try:
        header = json.loads(data[8:8 + length].tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header isn't JSON ({error})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header isn't a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: the metadata isn't a JSON object: {metadata!r}")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ValueError(f"{path}: metadata {key!r} isn't text: {value!r}")
    return header, metadata, data[8 + length:]


def read_entry(path: str | Path, name: str, entry: object,
               body: np.ndarray) -> tuple[str, tuple[int, ...], np.ndarray]:
    """The type, the shape and the bytes of a tensor, of which `entry` is what the header says."""
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if any(type(number) is not int or number < 0 for number in (start, end, *shape)):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: tensor {name!r} isn't described by dtype, shape and "
                         f"data_offsets: {entry!r}") from None
    if not isinstance(kind, str) or kind not in _STORED:
        raise ValueError(f"{path}: tensor {name!r} is {kind}, which isn't supported here")
    size = math.prod(shape) * np.dtype(_STORED[kind]).itemsize
    if not start <= end <= body.size or end - start != size:
        raise ValueError(f"{path}: tensor {name!r} of shape {list(shape)} needs {size} bytes, "
                         f"its offsets are [{start}, {end}) in {body.size} bytes of data")
    return kind, shape, body[start:end]


def make_header(tensors: Iterable[tuple[str, str, Sequence[int], int]],
                metadata: Mapping[str, str] | None = None) -> bytes:
    """What a file begins with; name, type, shape and bytes of the tensors, one behind the other.

    Padded, so that data begin at a multiple of ALIGNMENT.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, kind, shape, size in tensors:
        header[name] = {"dtype": kind, "shape": list(shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors of a `.safetensors` file, by name, and its metadata.

    BF16 and fp8 become float32. Raises ValueError, naming the file and the tensor, when the file
    isn't what it says.
    """
    header, metadata, body = read_header(path)
    return {name: _tensor(*read_entry(path, name, entry, body))
            for name, entry in header.items()}, metadata


def _tensor(kind: str, shape: tuple[int, ...], data: np.ndarray) -> np.ndarray:
    values = np.frombuffer(data.tobytes(), _STORED[kind]).reshape(shape)
    if kind in _FP8:
        return _FP8[kind][values]
    return from_bf16_bits(values) if kind == "BF16" else values


def save(path: str | Path, tensors: Mapping[str, np.ndarray],
         bf16: Collection[str] = (), metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors` (those named in `bf16` as BF16) and `metadata` to `path`."""
    described, chunks = [], []
    for name, value in tensors.items():
        value = np.asarray(value)
        kind = "BF16" if name in bf16 else _NAMES[value.dtype]
        chunks.append((bf16_bits(value) if name in bf16 else value).tobytes())
        described.append((name, kind, value.shape, len(chunks[-1])))
    with open(path, "wb") as file:
        file.write(make_header(described, metadata) + b"".join(chunks))
