"""SGLang's fused experts, `fused_experts_cpu` of vLLM's CPU wheel.

vLLM takes them on machines with AMX only. They need no more than AVX512-BF16, and are fast there.
"""

from __future__ import annotations

import torch

from peers.torch_common import TorchPeer, down, gate_up
from peers.vllm_common import load_ops

BF16_WEIGHTS = 0  # of the op's methods; others are quantized


class Peer(TorchPeer):
    """Weights are packed once; the router is torch's."""

    rounding = "relaxed: the kernel's own; logits and y in the storage type"

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        self.ops = load_ops()
        if not hasattr(self.ops, "fused_experts_cpu"):
            raise NotImplementedError("it needs AVX512-BF16")
        self.gate_up = self.ops.convert_weight_packed(gate_up(case, weights))
        self.down = self.ops.convert_weight_packed(down(case, weights))

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, ids = self.route(x)
        y = torch.empty_like(x)
        nothing = (None,) * 10  # scales, zero points, block size, biases, alpha, limit
        self.ops.fused_experts_cpu(y, x, self.gate_up, self.down, scale, ids.to(torch.int32),
                                   BF16_WEIGHTS, *nothing, True)
        return y
