"""Count again what moe-run says of the routing of stats.mlir: check_stats.py FOLDER STATS REPORT."""

import json
import math
import struct
import sys
from pathlib import Path

import tensors as ts

E, CAPACITY, H = 5, 3, 4
folder = Path(sys.argv[1])


def read(name: str, letter: str) -> list:
    """The elements of an array, in row-major order."""
    tensor = ts.read_npy(folder / f"{name}.npy")
    return list(struct.unpack(f"<{math.prod(tensor.shape)}{letter}", tensor.data))


x, ids, weights, scale = (read(*a) for a in (("x", "f"), ("ids", "i"), ("weights", "f"),
                                             ("scale", "f")))
tokens, squares, dropped, nowhere = [0] * E, [0.0] * E, 0, 0
for choice, expert in enumerate(ids):
    if not 0 <= expert < E:
        nowhere += 1
    elif tokens[expert] == CAPACITY:
        dropped += 1
    else:
        tokens[expert] += 1
        token = choice // 2
        row = [x[token * H + h] * scale[expert * H + h] for h in range(H)]
        squares[expert] += sum((weights[choice] * value) ** 2 for value in row)
routed = sum(tokens)
shares = [count / routed if routed else 0 for count in tokens]
entropy = -sum(p * math.log2(p) for p in shares if p)

with open(sys.argv[2], encoding="utf-8") as file:
    stats = json.load(file)
with open(sys.argv[3], encoding="utf-8") as file:
    assert json.load(file)["routing"] == stats["layers"]
assert stats["format"] == 1 and stats["entry"] == "layer", stats
(layer,) = stats["layers"]
assert layer["experts"] == E and layer["tokens"] == tokens, (layer, tokens)
assert (layer["routed"], layer["dropped"], layer["nowhere"]) == (routed, dropped, nowhere), layer
assert routed + dropped + nowhere == len(ids)
assert layer["share"] == shares, (layer, shares)
assert math.isclose(layer["entropy_bits"], entropy, abs_tol=1e-12), (layer, entropy)
if routed:
    assert dropped > 0 and nowhere > 0 and tokens[3] == 0 and max(tokens) == CAPACITY
    assert math.isclose(layer["max_over_mean"], max(tokens) * E / routed), layer
else:
    assert layer["max_over_mean"] is None, layer
# Rows are rounded to f32 once, 2^-24 of each element.
for norm, square in zip(layer["contribution"], squares, strict=True):
    assert math.isclose(norm, math.sqrt(square), rel_tol=2.0**-23), (layer, squares)
