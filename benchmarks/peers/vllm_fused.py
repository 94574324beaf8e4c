"""vLLM's own kernel, `cpu_fused_moe` with vectors: what it takes on x86 without AMX."""

from __future__ import annotations

import torch

from peers.torch_common import TorchPeer, gate_up, tensor
from peers.vllm_common import load_ops

ISA = "vec"


class Peer(TorchPeer):
    """Weights are packed once; the router is torch's."""

    rounding = "relaxed: the kernel's own; logits and y in the storage type"

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        self.ops = load_ops()
        self.gate_up, self.down = self._packed(gate_up(weights)), self._packed(tensor(weights.down))

    def _packed(self, matrices: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(matrices)
        self.ops.prepack_moe_weight(matrices, result, ISA)
        return result

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, ids = self.route(x)
        y = torch.empty_like(x)
        self.ops.cpu_fused_moe(y, x, self.gate_up, self.down, None, None, scale,
                               ids.to(torch.int32), False, "silu", ISA)
        return y
