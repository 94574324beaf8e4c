"""transformers' own block (Qwen3-MoE's) with its grouped_mm experts: what people run."""

from __future__ import annotations

import torch
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from peers.torch_common import TorchPeer, gate_up, tensor


class Peer(TorchPeer):
    """The block's parameters are our weights; nothing else is changed."""

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        config = Qwen3MoeConfig(
            hidden_size=case.hidden, moe_intermediate_size=case.inner, num_experts=case.experts,
            num_experts_per_tok=case.top_k, norm_topk_prob=case.renormalize, hidden_act="silu",
            num_hidden_layers=1)
        config._experts_implementation = "grouped_mm"  # what set_experts_implementation writes
        with torch.device("meta"):
            block = Qwen3MoeSparseMoeBlock(config)
        block.load_state_dict({"gate.weight": self.router, "experts.gate_up_proj": gate_up(weights),
                               "experts.down_proj": tensor(weights.down)}, assign=True)
        self.block = block.eval()

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x[None])[0]
