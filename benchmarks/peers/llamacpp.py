"""llama.cpp's MoE block on ggml's CPU backend, weights as a file has them (llamacpp.cpp)."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from cases import BODIES

TYPES = {"f32": 0, "bf16": 30}  # of ggml_type
# In the order of the enum Role of llamacpp.cpp.
ROLES = ("gate", "up", "down", "gate_bias", "up_bias", "down_bias", "router", "router_bias", "bias")


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("hidden", "inner", "experts", "top_k")] + [
        (name, ctypes.c_int32) for name in ("body", "sigmoid", "renormalize", "type")] + [
        ("scale", ctypes.c_float)]


def _build() -> ctypes.CDLL:
    """llamacpp.cpp, with the ggml of this environment."""
    ggml = Path(sys.prefix, "ggml")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "libmoe_ggml.so")
        subprocess.run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC",
                        "-I", ggml / "include", Path(__file__).with_suffix(".cpp"), "-o", library,
                        "-L", ggml, "-lggml-cpu", "-lggml-base", f"-Wl,-rpath,{ggml}"], check=True)
        result = ctypes.CDLL(str(library))
    address = ctypes.c_void_p
    for name, answer, parameters in (
            ("new_layer", address, [ctypes.POINTER(_Sizes)]), ("free_layer", None, [address]),
            ("set_weights", ctypes.c_int32,
             [address, ctypes.c_int32, ctypes.c_int64, address, ctypes.c_size_t]),
            ("set_threads", None, [address, ctypes.c_int32]),
            ("new_graph", address, [address, ctypes.c_int64]), ("free_graph", None, [address]),
            ("run_graph", ctypes.c_int32, [address, address, address, address])):
        function = getattr(result, f"moe_ggml_{name}")
        function.restype, function.argtypes = answer, parameters
    return result


class Peer:
    """A graph for each number of tokens; ggml's rows are f32 whatever the type of its weights."""

    rounding = "relaxed: f32 between the matmuls, which round what they read to the weights' type"

    def __init__(self) -> None:
        self.ggml, self.layer, self.graph, self.tokens = _build(), None, None, 0

    def prepare(self, case, weights) -> None:
        sizes = _Sizes(case.hidden, case.inner, case.experts, case.top_k,
                       BODIES.index(case.body), case.score == "sigmoid", case.renormalize,
                       TYPES[weights.dtype], case.scale)
        self.release()
        self.layer = self.ggml.moe_ggml_new_layer(ctypes.byref(sizes))
        if not self.layer:
            raise RuntimeError("ggml has no memory for the layer")
        for role in ("router", "router_bias", "bias"):
            if role in weights.tensors:
                self._set(role, 0, self._wide(weights.tensors[role]))
        for at in range(case.experts):
            for role, part in weights.expert(at)._asdict().items():
                if part is not None:
                    self._set(role, at, self._wide(part) if part.ndim == 1 else part)

    @staticmethod
    def _wide(values: np.ndarray) -> np.ndarray:
        """ggml wants all that is small in f32."""
        if values.dtype == np.uint16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values

    def _set(self, role: str, expert: int, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values)
        if self.ggml.moe_ggml_set_weights(self.layer, ROLES.index(role), expert,
                                          values.ctypes.data, values.nbytes):
            raise RuntimeError(f"ggml has another size for {role} than {values.nbytes} bytes")

    def set_threads(self, count: int) -> None:
        self.ggml.moe_ggml_set_threads(self.layer, count)

    def input(self, x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        x = np.ascontiguousarray(x)
        if len(x) != self.tokens:
            self._release_graph()
            self.graph, self.tokens = self.ggml.moe_ggml_new_graph(self.layer, len(x)), len(x)
            if not self.graph:
                raise RuntimeError("ggml has no memory for the graph")
        return self.graph, x, np.empty_like(x)

    def run(self, ready) -> np.ndarray:
        graph, x, y = ready
        status = self.ggml.moe_ggml_run_graph(self.layer, graph, x.ctypes.data, y.ctypes.data)
        if status:
            raise RuntimeError(f"ggml_backend_graph_compute gave status {status}")
        return y

    @staticmethod
    def result(y: np.ndarray) -> np.ndarray:
        return y.astype(np.float64)

    def _release_graph(self) -> None:
        if self.graph:
            self.ggml.moe_ggml_free_graph(self.graph)
        self.graph, self.tokens = None, 0

    def release(self) -> None:
        """The memory of ggml."""
        self._release_graph()
        if self.layer:
            self.ggml.moe_ggml_free_layer(self.layer)
        self.layer = None

    def __del__(self) -> None:
        if hasattr(self, "ggml"):
            self.release()
