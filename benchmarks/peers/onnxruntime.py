"""onnxruntime's MoE operator (com.microsoft), with the router in the same graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

import onnxruntime

ACTIVATION = {"swiglu": {"activation_alpha": 1.0, "activation_beta": 0.0},
              "gpt_oss": {"activation_alpha": 1.702, "activation_beta": 1.0, "swiglu_limit": 7.0}}
INTERLEAVED = 1  # swiglu_fusion: rows of gate and up in turn


def _operands(case, weights) -> dict[str, np.ndarray]:
    """Initializers by name."""
    h, i, e = case.hidden, case.inner, case.experts
    gate_up, down = np.empty((e, 2 * i, h), np.float32), np.empty((e, h, i), np.float32)
    for at, (both, last) in enumerate(zip(gate_up, down)):
        expert = weights.expert(at)
        both[0::2], both[1::2], last[:] = expert.gate, expert.up, expert.down
    result = {"router": weights.router.T.copy(), "gate_up": gate_up, "down": down}
    return result | {role: array for role, array in weights.tensors.items()
                     if role.endswith("_bias")}


def _model(case, operands: dict[str, np.ndarray]) -> onnx.ModelProto:
    """x → y; where its initializers are, the session is told."""
    def given(name: str) -> str:
        return name if name in operands else ""
    nodes = [helper.make_node("MatMul", ["x", "router"], ["products"])]
    logits = "products"
    if "router_bias" in operands:
        nodes.append(helper.make_node("Add", ["products", "router_bias"], ["logits"]))
        logits = "logits"
    nodes.append(helper.make_node(
        "MoE", ["x", logits, "gate_up", given("gate_up_bias"), "down", given("down_bias")], ["y"],
        domain="com.microsoft", k=case.top_k, activation_type="swiglu",
        swiglu_fusion=INTERLEAVED, normalize_routing_weights=int(case.renormalize),
        **ACTIVATION[case.body]))
    initializers = []
    for name, array in operands.items():
        proto = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape,
                            data_location=TensorProto.EXTERNAL)
        proto.external_data.add(key="location", value="in memory")
        initializers.append(proto)
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", case.hidden])
            for name in ("x", "y")]
    graph = helper.make_graph(nodes, "layer", rows[:1], rows[1:], initializers)
    return helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])


class Peer:
    """A session for each number of threads, one at a time."""

    rounding = "strict: all in f32"

    def prepare(self, case, weights) -> None:
        self.operands = _operands(case, weights)
        self.model = _model(case, self.operands).SerializeToString()
        self.session, self.threads = None, 0
        self.set_threads(1)

    def set_threads(self, count: int) -> None:
        if count == self.threads:
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = count, 1
        # Its threads must not spin while ours is measured.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array)
                  for array in self.operands.values()]
        options.add_external_initializers(list(self.operands), values)
        self.session = None  # before the next one takes memory
        self.session = onnxruntime.InferenceSession(self.model, options,
                                                    providers=["CPUExecutionProvider"])
        self.threads = count

    @staticmethod
    def input(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": x}

    def run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        return self.session.run(None, feed)[0]

    @staticmethod
    def result(y: np.ndarray) -> np.ndarray:
        return y.astype(np.float64)
