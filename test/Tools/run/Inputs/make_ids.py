"""Write ids for layer.mlir with 4 experts and 5 tokens: make_ids.py FOLDER.

Three tables that mean the same, and two of other shapes.
"""

import sys
from pathlib import Path

import tensors as ts

folder = Path(sys.argv[1])
ONLY = [3, 0, 1, 1, 2]
TABLES = {"twice": [(e, e) for e in ONLY], "nowhere": [(e, -1) for e in ONLY],
          "beyond": [(4, e) if e else (e, 2**31 - 1) for e in ONLY]}
for name, table in TABLES.items():
    flat = [e for row in table for e in row]
    (folder / f"{name}.npy").write_bytes(ts.npy_bytes(ts.make("I32", (5, 2), flat)))
for name, shape in (("short", (4, 2)), ("wide", (5, 3))):
    wrong = ts.make("I32", shape, [0] * (shape[0] * shape[1]))
    (folder / f"{name}.npy").write_bytes(ts.npy_bytes(wrong))
