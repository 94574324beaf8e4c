"""Our side: import a layer of the case's size, compile it, and call it through its C interface."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from cases import Case
from data import Array, Weights, bf16_bits, empty, shapes, widen
from memory import Growth, fresh, growth
from moe.artifact import compile_layer, find_compiler, packed_shape, view

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "test/Zoo"
FAMILIES = Path(__file__).resolve().parent / "families"
# The roles of data.shapes → names that our own families bind.
OWN_NAMES = {"router": "router", "bias": "bias", "up": "experts.{expert}.up",
             "down": "experts.{expert}.down"}
# Ends of other names → roles.
ROLES = ((".gate_proj.weight", "gate"), (".w1.weight", "gate"), (".up_proj.weight", "up"),
         (".w3.weight", "up"), (".down_proj.weight", "down"), (".w2.weight", "down"),
         (".gate.weight", "router"), (".router.weight", "router"), (".router.bias", "router_bias"),
         (".gate_up_proj", "gate_up"), (".gate_up_proj_bias", "gate_up_bias"),
         (".down_proj", "down"), (".down_proj_bias", "down_bias"))
ROUNDINGS = {"strict": "strict: wherever the model rounds",
             "relaxed": "relaxed: where rows are stored, and results; the router rounds as the "
                        "model does"}
DTYPES = {"f32": "float32", "bf16": "bfloat16"}
RUNTIME = ("regions.cpp", "probe.cpp", "peak.cpp")
MOST_REGIONS = 64  # of regions.cpp


def role_of(name: str) -> str:
    """The role of a tensor that a layer binds."""
    own = {bound: role for role, bound in OWN_NAMES.items()}
    if name in own:
        return own[name]
    for end, role in ROLES:
        if name.endswith(end):
            return role
    raise NotImplementedError(f"no weights are made for {name}")


def _zoo():
    """make_checkpoint.py of the zoo's tests."""
    spec = importlib.util.spec_from_file_location("make_checkpoint",
                                                  ZOO / "Inputs/make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checkpoint(case: Case, dtype: str, zoo) -> tuple[dict, list[str]]:
    """config.json, and the names of the tensors that the family binds."""
    if (FAMILIES / f"{case.family}.family").exists():
        config = {"model_type": case.family, "moe_intermediate_size": case.inner,
                  "num_experts": case.experts, "routed_scaling_factor": case.scale}
        names = [OWN_NAMES[role] for role in shapes(case)]
    else:
        config = json.loads((ZOO / f"Inputs/{case.family}.json").read_text())
        for keys, value in ((("moe_intermediate_size", "intermediate_size"), case.inner),
                            (("num_experts", "num_local_experts"), case.experts)):
            config[next(key for key in keys if key in config)] = value
        bound = zoo.bound_tensors((ZOO / f"{case.family}.mlir").read_text())
        names = sorted({re.sub(r"\.experts\.\d+\.", ".experts.{expert}.", name) for name in bound})
    config |= {"hidden_size": case.hidden, "num_experts_per_tok": case.top_k,
               "dtype": DTYPES[dtype], **dict(case.config)}
    return config, names


def layer_text(case: Case, dtype: str) -> str:
    """What moe-import writes for a checkpoint of this family, size and type."""
    zoo = _zoo()
    config, names = _checkpoint(case, dtype, zoo)
    tensors = {}
    for name in names:
        role = role_of(name)
        kind, shape = "f32" if role == "bias" else dtype, list(shapes(case)[role])
        if "{expert}" not in name:
            tensors[name] = kind, shape
            continue
        for expert in range(case.experts):
            tensors[name.replace("{expert}", str(expert))] = kind, shape[1:]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        zoo.write_tensors(Path(folder, "model.safetensors"), tensors)
        command = [find_compiler().with_name("moe-import"), folder, "--layer", "1", "-o", "-",
                   "--families", FAMILIES]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"moe-import failed on case {case.name}:\n{done.stderr}")
    return done.stdout


def packed_sizes(case: Case, role: str) -> list[tuple[int, int]]:
    """N and K of each packed tensor that one with this role becomes; none for a router or a bias."""
    first, second = (case.inner, case.hidden), (case.hidden, case.inner)
    return {"gate": [first], "up": [first], "gate_up": [first, first], "down": [second]}.get(role, [])


def load_runtime() -> ctypes.CDLL:
    """moe_rt_parallel_for and the probes of the machine, on the threads that the process has.

    They are built with g++, so that they share the libgomp of a torch that was imported before:
    two pools of spinning threads would disturb each other, and the comparison.
    """
    compiler = shutil.which("g++")
    if not compiler:
        raise FileNotFoundError("the benchmark's runtime is built with g++, which is not to be "
                                "found on the PATH: install it")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "libmoert.so")
        sources = [Path(__file__).with_name(name) for name in RUNTIME]
        subprocess.run([compiler, "-O3", "-march=native", "-shared", "-fPIC", "-fopenmp",
                        "-I", ROOT / "include", *sources, "-o", library], check=True)
        return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Peer:
    """The compiled layer, with the interface of peers/__init__.py."""

    def __init__(self, rounding: str = "strict", weights: str = "mapped") -> None:
        self.rounding = ROUNDINGS[rounding]
        self.options = ("--target-cpu=native",)
        if rounding == "relaxed":
            self.options += ("--relaxed-rounding",)
        self.is_packed = weights == "packed"
        if self.is_packed:
            self.options += ("--pack-weights",)
        self.runtime = load_runtime()  # before the artifact, which binds to it when it is loaded
        self.runtime.moe_bench_call.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t]
        self.compile_seconds = self.pack_seconds = 0.0
        self.packed_bytes = 0

    def prepare(self, case: Case, weights: Weights) -> None:
        self.dtype, text = weights.dtype, layer_text(case, weights.dtype)
        bound = re.findall(r'^ +%\w+: \S+ \{moe\.param = "([^"]+)"\}', text, re.MULTILINE)
        self.parameters = []
        for role in map(role_of, bound):
            array = weights.tensors[role]
            self.parameters.append(view(array, "bf16" if array.dtype == np.uint16 else "f32"))
        self.weights = weights  # keeps the memory of the views
        with tempfile.TemporaryDirectory() as cache:
            os.environ["MOE_CACHE"] = cache  # an empty one: the time is that of a compile
            start = time.perf_counter()
            self.artifact = compile_layer(text, "layer", self.options)
            self.compile_seconds = time.perf_counter() - start
        if self.is_packed:
            self.pack(case, [role_of(name) for name in bound])

    def pack(self, case: Case, roles: list[str]) -> None:
        """Replaces the experts' parameters by packed ones."""
        self.packed, sources, parameters = [], [], []
        element = np.uint16 if self.dtype == "bf16" else np.float32
        for role, parameter in zip(roles, self.parameters, strict=True):
            made = [empty(packed_shape(case.experts, *sizes, self.dtype), element)
                    for sizes in packed_sizes(case, role)]
            sources += [parameter] if made else []
            parameters += [view(array, self.dtype) for array in made] or [parameter]
            self.packed += made
        fill = self.artifact.pack.bind(*sources, *(view(each, self.dtype) for each in self.packed))
        taken = []
        for _ in range(4):  # the first time, pages are made for the copy
            start = time.perf_counter()
            fill()
            taken.append(time.perf_counter() - start)
        self.pack_seconds = min(taken)
        self.packed_bytes = sum(array.nbytes for array in self.packed)
        self.parameters = parameters

    def set_threads(self, count: int) -> None:
        self.runtime.moe_rt_set_num_threads(ctypes.c_int32(count))

    def input(self, x: Array):
        """A call that is ready but for its start, so that the time of ctypes is small."""
        x = bf16_bits(x) if self.dtype == "bf16" else x
        y = np.empty_like(x)
        views = (view(x, self.dtype), *self.parameters, view(y, self.dtype))
        call = self.artifact.bind(*views)
        timed = self.artifact.bind(*views, workspace=call.workspace,
                                   caller=self.runtime.moe_bench_call)
        return call, y, x, timed

    @staticmethod
    def run(ready) -> Array:
        ready[0]()
        return ready[1]

    @staticmethod
    def result(y: Array) -> Array:
        return widen(y)

    def routing(self, ready) -> tuple[float, int]:
        """Seconds of a call until its experts begin, and its parallel regions.

        The last two regions are the experts', where either has more than one task. The clock starts
        in C: Python's way to the call takes longer than a token's routing.
        """
        seconds = (ctypes.c_double * MOST_REGIONS)()
        ready[3]()
        count = self.runtime.moe_bench_regions(seconds)
        return (seconds[count - 2] if count >= 2 else 0.0), count

    def memory(self, x: Array) -> Growth:
        """Of a call whose workspace and result were never touched before."""
        x = bf16_bits(x) if self.dtype == "bf16" else x
        y = fresh(x.nbytes).view(x.dtype).reshape(x.shape)
        views = (view(x, self.dtype), *self.parameters, view(y, self.dtype))
        size = self.artifact.workspace_bytes(*views)
        call = self.artifact.bind(*views, workspace=fresh(size))
        return Growth(size, y.nbytes, growth(call))
