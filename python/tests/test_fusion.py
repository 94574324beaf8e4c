"""Fused programs compute what they computed before: moe-fuse, then the general lowering.

The bodies are those of test/Dialect/MoE/expert-to-grouped-matmul.mlir, all in one artifact, fused
against as written; what is added behind a combine, as its base; and random layers, fused, against
float64 within their bounds.
MOE_TEST_SEED and MOE_TEST_ITERATIONS choose other inputs and layers, and more of them.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from execution import Array, call, make_compiled, make_random  # noqa: F401, the last two: fixtures
from moe.artifact import compile_layer, find_compiler
from moe.tensors import bf16_bits, from_bf16_bits
from random_layers import make_layer
from test_random_layers import compare

ROOT = Path(__file__).resolve().parents[2]
BODIES = ROOT / "test/Dialect/MoE/expert-to-grouped-matmul.mlir"
COMBINES = ROOT / "test/Dialect/MoE/fuse-combine.mlir"
SEED = int(os.environ.get("MOE_TEST_SEED", 20261122))
COUNT = int(os.environ.get("MOE_TEST_ITERATIONS", 24))
# The sum of these starts with a bias, and adds it last when it is fused.
REORDERED = {"mlp_biases"}


def opt(text: str, *options: str) -> str:
    """moe-opt, from the folder of moe-compile."""
    done = subprocess.run([find_compiler().with_name("moe-opt"), *options, "-"], input=text,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def signatures(text: str) -> list[tuple[str, list[str], str]]:
    """Name, argument types and result type of each function."""
    found = re.findall(r"func\.func @(\w+)\(([^)]*)\)\s*->\s*(tensor<[^>]*>) \{", text)
    return [(name, re.findall(r":\s*(tensor<[^>]*>)", arguments), result)
            for name, arguments, result in found]


def with_entry(text: str) -> str:
    """All functions private, and one that calls them with arguments of their own."""
    lines, arguments, results = [], [], []
    for name, types, result in signatures(text):
        values = [f"%{name}_{i}" for i in range(len(types))]
        arguments += [f"{v}: {t}" for v, t in zip(values, types)]
        lines.append(f"  %{name} = call @{name}({', '.join(values)}) : "
                     f"({', '.join(types)}) -> {result}")
        results.append((f"%{name}", result))
    values, types = (", ".join(part) for part in zip(*results))
    return (text.replace("func.func @", "func.func private @")
            + f"func.func @all({', '.join(arguments)}) -> ({types}) {{\n" + "\n".join(lines)
            + f"\n  return {values} : {types}\n}}\n")


def draw(random: np.random.Generator, kind: str, rows: int, offsets: Array) -> Array:
    """An argument of a type, with `rows` for an unknown size; bf16 as its bits."""
    *sizes, element = kind[len("tensor<"):-1].split("x")
    if element == "i32":
        return offsets
    shape = [rows if size == "?" else int(size) for size in sizes]
    values = np.asarray(random.normal(size=shape), np.float32)
    return bf16_bits(values) if element == "bf16" else values


@pytest.mark.parametrize("offsets", [(0, 3, 3, 7), (1, 1, 2, 4), (0, 0, 0, 0)])
def test_bodies(compiled, random, offsets):
    """Every body, with an empty expert, rows that nobody owns, and no rows at all."""
    text = with_entry(BODIES.read_text())
    rows = offsets[-1] + 1 if offsets[0] else offsets[-1]
    arrays, names = [], []
    for name, types, _ in signatures(BODIES.read_text()):
        names.append(name)
        arrays += [draw(random, t, rows, np.array(offsets, np.int32)) for t in types]
    kinds = [result for *_, result in signatures(BODIES.read_text())]
    plain, fused = ([draw(random, kind, rows, np.zeros(0)) for kind in kinds] for _ in range(2))
    call(compiled(text, "all"), *arrays, *plain)
    call(compiled(opt(text, "--moe-fuse"), "all"), *arrays, *fused)
    assert len(names) >= 15
    for name, a, b in zip(names, plain, fused, strict=True):
        if a.dtype == np.uint16:
            a, b = from_bf16_bits(a), from_bf16_bits(b)
        tolerance = 1e-6 if name in REORDERED else 0
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance, err_msg=name)
        assert not rows or np.abs(a).max() > 0, name


@pytest.mark.parametrize("tokens", [0, 1, 9])
@pytest.mark.parametrize("name", ["residual", "shared"])
def test_base(compiled, random, name, tokens):
    """The same bits as from the addition: one more in f32, and one rounding."""
    text = COMBINES.read_text()
    functions = re.findall(r"^#.*|^func\.func @(?:" + name + r")\((?s:.*?)^}", text, re.MULTILINE)
    text = "\n".join(functions) + "\n"
    fused = opt(text, "--moe-fuse")
    assert " base(" in fused and " base(" not in text
    [(_, types, result)] = signatures(text)
    # Ids of four experts and of none; slots in any order, of which some are no row's.
    integers = random.integers(-1, 5, (tokens, 2), np.int32)
    if name == "shared":
        integers = random.permutation(2 * tokens).reshape(tokens, 2).astype(np.int32)
    arrays = [draw(random, t, tokens, integers) for t in types]
    plain, based = (draw(random, result, tokens, np.zeros(0)) for _ in range(2))
    call(compiled(text, name), *arrays, plain)
    call(compiled(fused, name), *arrays, based)
    np.testing.assert_array_equal(plain.view(np.uint8), based.view(np.uint8))


@pytest.mark.parametrize("seed", range(SEED, SEED + COUNT))
def test_random_layer(seed, tmp_path, monkeypatch):
    """Layers of random routers, attributes and bodies, fused as far as they are."""
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    layer = make_layer(seed)
    fused = opt(layer.text, "--moe-fuse")
    (tmp_path / "fused.mlir").write_text(fused)  # To look at when it fails.
    artifact = compile_layer(fused, "layer", ("-O0",))
    random = np.random.default_rng(seed)
    counts = (0, 5) if isinstance(layer.tokens, str) else (layer.tokens,)
    compare(artifact, layer, random, counts)


def test_random_layers_are_fused():
    """The generator makes what fuses: half of its layers have grouped matmuls, and read tokens."""
    texts = [opt(make_layer(seed).text, "--moe-fuse") for seed in range(SEED, SEED + 36)]
    assert sum("moe.grouped_matmul" in text for text in texts) >= 18
    assert sum("moe.plan" in text for text in texts) >= 6
