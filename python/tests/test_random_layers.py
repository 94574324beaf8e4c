"""Random layers, compiled, against float64 within bounds that are derived operation by operation.

MOE_TEST_SEED and MOE_TEST_ITERATIONS choose other layers and more of them; the seed of a layer is
in the name of its test.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from bounded import Bounded, check
from moe.artifact import Artifact, View, compile_layer, view
from moe.tensors import bf16_bits, from_bf16_bits
from random_layers import Layer, make_layer

SEED = int(os.environ.get("MOE_TEST_SEED", 20261122))
COUNT = int(os.environ.get("MOE_TEST_ITERATIONS", 36))


def as_view(array: np.ndarray, kind: str) -> tuple[np.ndarray, View]:
    """float32 values as what the artifact takes, and the array that has to be kept alive."""
    if kind == "bf16":
        array = bf16_bits(array)
    elif kind == "f16":
        array = array.astype(np.float16)
    array = np.array(array, order="C")  # Keeps rank 0, as ascontiguousarray does not.
    return array, view(array, kind if kind == "bf16" else None)


def call(artifact: Artifact, layer: Layer, inputs: dict[str, np.ndarray], tokens: int
         ) -> dict[str, np.ndarray]:
    """Runs the layer; results in numpy types, bf16 as float32. What nobody writes is NaN or −99."""
    shapes = {"y": (tokens, layer.yielded.width), "offsets": (layer.num_experts + 1,),
              "slots": (tokens, layer.k), "weights": (tokens, layer.k), "ids": (tokens, layer.k),
              "sums": (layer.num_experts, layer.yielded.width)}
    kept = [as_view(inputs[a.name], a.kind) for a in layer.arguments]
    outputs = {}
    for name, _, kind in layer.results:
        blank = np.full(shapes[name], -99 if kind == "i32" else np.nan)
        outputs[name] = as_view(blank.astype(np.int32 if kind == "i32" else np.float32), kind)
    artifact(*(v for _, v in kept), *(v for _, v in outputs.values()))
    kinds = {name: kind for name, _, kind in layer.results}
    return {name: from_bf16_bits(array) if kinds[name] == "bf16" else array
            for name, (array, _) in outputs.items()}


def compare(artifact: Artifact, layer: Layer, random: np.random.Generator, counts) -> None:
    """What the artifact computes of random inputs, for each number of tokens, with what it must."""
    for tokens in counts:
        inputs = layer.make_inputs(random, tokens)
        actual = call(artifact, layer, inputs, tokens)
        for name, expected in layer.expect(inputs).items():
            where = f"{name} with T = {tokens}"
            if isinstance(expected, Bounded):
                check(where, actual[name], expected)
            else:
                np.testing.assert_array_equal(actual[name], expected, where)


@pytest.mark.parametrize("seed", range(SEED, SEED + COUNT))
def test_layer(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    layer = make_layer(seed)
    (tmp_path / "layer.mlir").write_text(layer.text)  # To look at when it fails.
    artifact = compile_layer(layer.text, "layer")
    random = np.random.default_rng(seed)
    counts = (0, 1, int(random.integers(2, 9)))
    if not isinstance(layer.tokens, str):
        counts = (layer.tokens,)
    compare(artifact, layer, random, counts)


def test_bounds_are_tight():
    """For f32 they are far below the values, so they would not hide a wrong operation."""
    loosest = 0.0
    for seed in range(SEED, SEED + 30):
        layer = make_layer(seed)
        if layer.kind != "f32" or layer.out_kind != "f32":
            continue
        tokens = 6 if isinstance(layer.tokens, str) else layer.tokens
        y = layer.expect(layer.make_inputs(np.random.default_rng(seed), tokens))["y"]
        most = np.abs(y.value).max(initial=0)
        loosest = max(loosest, y.error.max(initial=0) / most if most else 0)
    assert 0 < loosest < 1e-3
