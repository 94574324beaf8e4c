"""Writes weights of 7 experts (`gate`, `up`: 35×40, `down`: 40×35) and what a call of 9 tokens takes.

    write_packed_inputs.py FILE f32|bf16

Numbers are multiples of 1/64 below 1: exact in both types.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))
from moe.tensors import save  # noqa: E402

EXPERTS, TOKENS, H, I = 7, 9, 40, 35

random = np.random.default_rng(5)
shapes = {"gate": (EXPERTS, I, H), "up": (EXPERTS, I, H), "down": (EXPERTS, H, I), "x": (TOKENS, H)}
tensors = {name: random.integers(-63, 64, shape).astype(np.float32) / 64
           for name, shape in shapes.items()}
tensors["weights"] = random.integers(1, 64, (TOKENS, 2)).astype(np.float32) / 64
# Expert 3 is used by tokens 0 and 4, expert 5 by none.
tensors["ids"] = np.array([[3, 0], [0, 1], [1, 2], [2, 4], [4, 3], [6, 0], [-1, 2], [1, 6], [0, 4]],
                          np.int32)
save(sys.argv[1], tensors, bf16=shapes if sys.argv[2] == "bf16" else ())
