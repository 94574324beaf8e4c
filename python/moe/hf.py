"""Run the experts of a transformers model through an artifact of moe-compile.

    import moe.hf
    moe.hf.register()
    model.set_experts_implementation("moe")

The router stays transformers' own; its ids and weights, the hidden states and the experts'
parameters are read where torch has them. An artifact is compiled once for each shape and type, so
all layers of a model share one. Inference on a CPU only. Numerically "moe" is the "grouped_mm" of
transformers (`models/ROUNDING.md`), with each token's experts added in ascending order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, _default_apply_gate

from .artifact import Artifact, View, compile_layer
from .experts_ir import Experts, experts_ir

_TYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16", torch.int64: "i64"}
_ACTIVATIONS = {"SiLU": "silu", "SiLUActivation": "silu", "ReLU": "relu"}


@functools.cache
def _artifact(experts: Experts) -> Artifact:
    return compile_layer(experts_ir(experts), "experts")


def _view(tensor: torch.Tensor) -> View:
    return View(tensor.data_ptr(), tuple(tensor.shape), _TYPES[tensor.dtype])


def _reasons(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> Iterator[str]:
    """What keeps an artifact from running these experts, and what to do about it."""
    for name, tensor in tensors.items():
        if torch.is_grad_enabled() and tensor.requires_grad:
            yield "there is no backward pass: call the model under torch.no_grad()"
        if tensor.device.type != "cpu":
            yield f"{name} is on {tensor.device}: move the model to the CPU"
        if tensor.dtype not in _TYPES:
            yield f"{name} is {tensor.dtype}: make it float32, bfloat16 or float16"
        if not tensor.is_contiguous():
            yield f"{name} is not row-major: call .contiguous() on it once"
    flags = {"has_gate": True, "is_concatenated": True, "has_bias": False, "is_transposed": False,
             "has_post_expert_norm": False}
    for flag, supported in flags.items():
        if getattr(module, flag, supported) != supported:
            yield f"{flag} is {not supported}"
    if type(module)._apply_gate is not _default_apply_gate:
        yield "it has a gating of its own (_apply_gate)"
    if type(module.act_fn).__name__ not in _ACTIVATIONS:
        yield f"its activation is {type(module.act_fn).__name__}"


def experts_forward(self: torch.nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                    top_k_weights: torch.Tensor) -> torch.Tensor:
    """An experts function of transformers: `T×H`, ids `T×k`, weights `T×k` → `T×H`.

    Ids outside of [0, E) (another rank's experts) count nothing.
    """
    hidden_states, top_k_index = hidden_states.contiguous(), top_k_index.contiguous()
    top_k_weights = top_k_weights.contiguous()  # all three are row-major already, as a rule
    reason = next(_reasons(self, {
        "hidden_states": hidden_states, "top_k_index": top_k_index, "top_k_weights": top_k_weights,
        **dict(self.named_parameters())}), None)
    if reason:
        raise NotImplementedError(f"the experts implementation 'moe' can't run "
                                  f"{type(self).__name__}: {reason}, or use "
                                  f"model.set_experts_implementation('eager')")
    count, hidden, width = self.down_proj.shape
    artifact = _artifact(Experts(
        count, hidden, width, top_k_index.shape[-1], _TYPES[hidden_states.dtype],
        _TYPES[top_k_weights.dtype], _ACTIVATIONS[type(self.act_fn).__name__]))
    result = torch.empty_like(hidden_states)
    artifact(*map(_view, (hidden_states, top_k_index, top_k_weights, self.gate_up_proj,
                          self.down_proj, result)))
    return result


def register(name: str = "moe") -> None:
    """Make `model.set_experts_implementation(name)` known to transformers."""
    ALL_EXPERTS_FUNCTIONS.register(name, experts_forward)
