"""What moe-fuse-routing makes computes what was there before: every router of its lit test, run both
ways.

Inputs are small integers times powers of two, so that the router's sums are exact in any order: all
results are equal, bit for bit.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from execution import Array, call, make_compiled, make_random  # noqa: F401
from moe.artifact import find_compiler
from moe.tensors import bf16_bits

SOURCE = (Path(__file__).resolve().parents[2] / "test/Dialect/MoE/fuse-routing.mlir").read_text()
MAPS = "".join(re.findall(r"^#\w+ = .*\n", SOURCE, re.MULTILINE))
FUNCTIONS = {name: body for body, name in re.findall(
    r"^(func\.func @(\w+)\(.*?^}\n)", SOURCE, re.MULTILINE | re.DOTALL)}
TENSOR = re.compile(r"tensor<([\dx?]*)x(bf16|f32|i32)>")


def signature(body: str) -> tuple[list[str], list[str]] | None:
    """The types of arguments and results; None where one is no tensor, as no entry takes those."""
    args, results = re.match(r"func\.func @\w+\((.*?)\)\s*-> \((.*?)\) \{", body, re.DOTALL).groups()
    types = [part.split(": ")[1] for part in re.split(r",\s*(?=%)", args)]
    return (types, results.split(", ")) if all(map(TENSOR.fullmatch, types)) else None


RUNNABLE = [name for name, body in FUNCTIONS.items() if signature(body)]


def make(kind: str, tokens: int, random: np.random.Generator | None = None, unit: float = 1
         ) -> Array:
    """A tensor of that type with random multiples of `unit`, or one to be overwritten. M is 2 T."""
    sizes, element = TENSOR.fullmatch(kind).groups()
    rank1 = sizes == "?"
    shape = [(2 * tokens if rank1 else tokens) if s == "?" else int(s) for s in sizes.split("x")]
    if random is None:
        return np.full(shape, 77, {"bf16": np.uint16, "f32": np.float32, "i32": np.int32}[element])
    values = np.float32(random.integers(-8, 9, shape) * unit)
    return bf16_bits(values) if element == "bf16" else values


def fused(text: str) -> str:
    """After the pass."""
    command = [find_compiler().with_name("moe-opt"), "--moe-fuse-routing", "--canonicalize"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def test_most_can_be_run():
    """The expressions above have found the functions."""
    assert len(FUNCTIONS) >= 16 and len(RUNNABLE) >= len(FUNCTIONS) - 2


@pytest.mark.parametrize("name", RUNNABLE)
def test_equal_before_and_after(compiled, random, name):
    """Weights, ids, offsets, slots and source, of no token, of one and of many."""
    text = MAPS + FUNCTIONS[name]
    after = fused(text)
    assert "moe.route" in after and "moe.gate" not in after
    arguments, results = signature(FUNCTIONS[name])
    for tokens in (0, 1, 37):
        # The tokens and the router first; what is added to the sums is smaller.
        inputs = [make(kind, tokens, random, 1 / 4 if i < 2 else 1 / 32)
                  for i, kind in enumerate(arguments)]
        outputs = [[make(kind, tokens) for kind in results] for _ in range(2)]
        for version, arrays in zip((text, after), outputs):
            call(compiled(version, name), *inputs, *arrays)
        for before_result, after_result in zip(*outputs):
            np.testing.assert_array_equal(before_result, after_result)
        if tokens > 1:
            assert len(np.unique(outputs[0][1])) == 4  # Every expert is chosen by somebody.
