"""transformers' own blocks with their grouped_mm experts: what people run."""

from __future__ import annotations

import torch
from transformers import GptOssConfig, Qwen3MoeConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from peers.torch_common import TorchPeer, down, gate_up, tensor


def _qwen3_block(case, weights) -> tuple:
    config = Qwen3MoeConfig(
        hidden_size=case.hidden, moe_intermediate_size=case.inner, num_experts=case.experts,
        num_experts_per_tok=case.top_k, norm_topk_prob=case.renormalize, hidden_act="silu",
        num_hidden_layers=1)
    config._experts_implementation = "grouped_mm"  # what set_experts_implementation writes
    return Qwen3MoeSparseMoeBlock, config, {
        "gate.weight": tensor(weights.router), "experts.gate_up_proj": gate_up(case, weights),
        "experts.down_proj": down(case, weights)}


def _gpt_oss_block(case, weights) -> tuple:
    config = GptOssConfig(hidden_size=case.hidden, intermediate_size=case.inner,
                          num_local_experts=case.experts, num_experts_per_tok=case.top_k,
                          num_hidden_layers=1)
    config._experts_implementation = "grouped_mm"
    names = {"router": "router.weight", "router_bias": "router.bias", "down": "experts.down_proj",
             "gate_up": "experts.gate_up_proj", "gate_up_bias": "experts.gate_up_proj_bias",
             "down_bias": "experts.down_proj_bias"}
    return GptOssMLP, config, {name: tensor(weights.tensors[role]) for role, name in names.items()}


class Peer(TorchPeer):
    """The block's parameters are our weights; nothing else is changed."""

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        make = {"swiglu": _qwen3_block, "gpt_oss": _gpt_oss_block}[case.body]
        module, config, state = make(case, weights)
        with torch.device("meta"):
            block = module(config)
        block.load_state_dict(state, assign=True)
        self.block = block.eval()

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x[None])[0].view_as(x)
