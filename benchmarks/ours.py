"""Our side: import a layer of the case's size, compile it, and call it through its C interface."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from cases import Case
from data import Array, Weights, bf16_bits, widen
from moe.artifact import compile_layer, find_compiler, view

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "test/Zoo"
# Parts of a checkpoint's names → our weights.
ROLES = (("{expert}.gate_proj.", "gate"), ("{expert}.w1.", "gate"), ("{expert}.up_proj.", "up"),
         ("{expert}.w3.", "up"), ("{expert}.down_proj.", "down"), ("{expert}.w2.", "down"),
         (".gate.weight", "router"))


def _zoo():
    """make_checkpoint.py of the zoo's tests."""
    spec = importlib.util.spec_from_file_location("make_checkpoint",
                                                  ZOO / "Inputs/make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _sized(config: dict, case: Case, dtype: str) -> tuple[dict, dict[int, int]]:
    """The zoo's config with the case's sizes, and which size replaces which."""
    def first(*keys: str) -> str:
        return next(key for key in keys if key in config)
    keys = {"hidden_size": case.hidden, "num_experts_per_tok": case.top_k,
            first("moe_intermediate_size", "intermediate_size"): case.inner,
            first("num_experts", "num_local_experts"): case.experts}
    sizes = {config[key]: value for key, value in keys.items()}
    names = {"f32": "float32", "bf16": "bfloat16"}
    return {**config, **keys, "dtype": names[dtype]}, sizes


def layer_text(case: Case, dtype: str) -> str:
    """What moe-import writes for a checkpoint of this family, size and type."""
    zoo = _zoo()
    config = json.loads((ZOO / f"Inputs/{case.family}.json").read_text())
    config, sizes = _sized(config, case, dtype)
    tensors = zoo.bound_tensors((ZOO / f"{case.family}.mlir").read_text())
    # The zoo's layer has as many tensors as it has experts; the case has others.
    resized = {}
    for name, (_, shape) in tensors.items():
        kind = dtype, [sizes[size] for size in shape]
        first = re.sub(r"\.experts\.\d+\.", ".experts.{expert}.", name)
        for expert in range(case.experts if first != name else 1):
            resized[first.replace("{expert}", str(expert))] = kind
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        zoo.write_tensors(Path(folder, "model.safetensors"), resized)
        command = [find_compiler().with_name("moe-import"), folder, "--layer", "1", "-o", "-"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"moe-import failed on case {case.name}:\n{done.stderr}")
    return done.stdout


def load_runtime() -> ctypes.CDLL:
    """moe_rt_parallel_for for this process, on the pool of threads that it has already.

    It is built with g++, so that it shares the libgomp of a torch that was imported before: two
    pools of spinning threads would disturb each other, and the comparison.
    """
    compiler = shutil.which("g++")
    if not compiler:
        raise FileNotFoundError("the benchmark's runtime is built with g++, which is not to be "
                                "found on the PATH: install it")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "libmoert.so")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-fopenmp", "-I", ROOT / "include",
                        ROOT / "lib/Runtime/ParallelFor.cpp", "-o", library], check=True)
        return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Peer:
    """The compiled layer, with the interface of peers/__init__.py."""

    rounding = "strict: wherever the model rounds"

    def __init__(self) -> None:
        self.runtime = load_runtime()  # before the artifact, which binds to it when it is loaded
        self.compile_seconds = 0.0

    def prepare(self, case: Case, weights: Weights) -> None:
        self.dtype, text = weights.dtype, layer_text(case, weights.dtype)
        bound = re.findall(r'^ +%\w+: \S+ \{moe\.param = "([^"]+)"\}', text, re.MULTILINE)
        self.parameters = []
        for name in bound:
            role = next((role for part, role in ROLES if part in name), None)
            if not role:
                raise NotImplementedError(f"case {case.name}: no weights for {name}")
            self.parameters.append(view(getattr(weights, role), self.dtype))
        self.weights = weights  # keeps the memory of the views
        start = time.perf_counter()
        self.artifact = compile_layer(text, "layer", ("--lowering=cpu",))
        self.compile_seconds = time.perf_counter() - start

    def set_threads(self, count: int) -> None:
        self.runtime.moe_rt_set_num_threads(ctypes.c_int32(count))

    def input(self, x: Array):
        """A call that is ready but for its start, so that the time of ctypes is small."""
        x = bf16_bits(x) if self.dtype == "bf16" else x
        y = np.empty_like(x)
        call = self.artifact.bind(view(x, self.dtype), *self.parameters, view(y, self.dtype))
        return call, y, x

    @staticmethod
    def run(ready) -> Array:
        ready[0]()
        return ready[1]

    @staticmethod
    def result(y: Array) -> Array:
        return widen(y)
