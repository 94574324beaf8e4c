"""What the execution tests share: compiling, calling, random numbers.

MOE_TEST_SEED chooses other inputs.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from moe.artifact import Artifact, compile_layer, view

SEED = int(os.environ.get("MOE_TEST_SEED", 20261122))
UNIT = 2.0 ** -24  # Half the distance of neighbouring f32 numbers, relatively.
Array = np.ndarray


@pytest.fixture(scope="session", name="compiled")
def make_compiled(tmp_path_factory):
    """compile_layer with a folder of its own, at -O0: these functions are long."""
    folder = tmp_path_factory.mktemp("execution")

    def compiled(text: str, name: str, *options: str) -> Artifact:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MOE_CACHE", str(folder))
            return compile_layer(text, name, options or ("-O0",))
    return compiled


@pytest.fixture(name="random")
def make_random(request) -> np.random.Generator:
    """Another stream for each test, the same one every time."""
    return np.random.default_rng([SEED, *request.node.name.encode()])


def call(artifact: Artifact, *arrays: Array) -> None:
    """Runs on arrays, which live as long as the call; uint16 stands for bf16."""
    arrays = [np.array(array, order="C", copy=None) for array in arrays]
    artifact(*(view(a, "bf16" if a.dtype == np.uint16 else None) for a in arrays))
