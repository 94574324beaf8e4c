"""Multiply one element of an F32 tensor: change_value.py FILE TENSOR INDEX FACTOR OUTPUT."""

import struct
import sys
from pathlib import Path

import tensors as ts

file, name, index, factor, output = sys.argv[1:]
held = ts.read_safetensors(Path(file))
values = list(struct.unpack(f"<{len(held[name].data) // 4}f", held[name].data))
values[int(index)] *= float(factor)
held[name] = ts.make("F32", held[name].shape, values)
Path(output).write_bytes(ts.safetensors_bytes(held))
