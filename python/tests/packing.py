"""Packed weights in tests: the layout by its definition, and files with something changed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

PANEL = 32


def pack_panels(weights: np.ndarray, pair: int, rest: float = 0) -> np.ndarray:
    """E×N×K in panels of 32 columns: E×panels×K×32, or E×panels×K/2×32×2 in pairs of k.

    Columns from N on are `rest`, an odd K's last element is 0.
    """
    experts, columns, length = weights.shape
    panels, pairs = -(-columns // PANEL), -(-length // pair)
    padded = np.zeros((experts, panels * PANEL, pairs * pair), weights.dtype)
    padded[:, columns:] = rest
    padded[:, :columns, :length] = weights
    tiles = padded.reshape(experts, panels, PANEL, pairs, pair).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiles if pair > 1 else tiles[..., 0])


def rewrite(source: Path, target: Path, edit: Callable[[dict, bytearray], None]) -> None:
    """Copies a safetensors file, whose header and data `edit` has changed."""
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + length]), bytearray(data[8 + length:])
    edit(header, body)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    target.write_bytes(struct.pack("<Q", len(text)) + text + body)
