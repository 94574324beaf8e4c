"""Check what types.mlir wrote: check_types.py FOLDER.

y.npy is f32 and y.safetensors BF16, of the same values: twice x.npy, rounded to nearest even.
"""

import struct
import sys
from pathlib import Path

import tensors as ts


def round_to_bf16(value: float) -> int:
    """The bits of the bf16 nearest to an f32, ties to even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def floats(tensor: ts.Tensor) -> list[float]:
    """The values of an f32 tensor."""
    return list(struct.unpack(f"<{len(tensor.data) // 4}f", tensor.data))


folder = Path(sys.argv[1])
rounded = [round_to_bf16(value) for value in floats(ts.read_npy(folder / "x.npy"))]
# Doubling is exact, and moves the exponent by one: bit 7.
expected = [bits + (1 << 7) for bits in rounded]

y = ts.read_safetensors(folder / "y.safetensors")["y"]
assert y.dtype == "BF16" and y.shape == (5, 8), y
assert list(struct.unpack("<40H", y.data)) == expected

y = ts.read_npy(folder / "y.npy")
assert y.dtype == "F32" and y.shape == (5, 8), y
assert list(struct.unpack("<40I", y.data)) == [bits << 16 for bits in expected]
