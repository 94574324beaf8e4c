"""vLLM's own kernel, `cpu_fused_moe` with vectors: what it takes on x86 without AMX."""

from __future__ import annotations

import torch

from peers.torch_common import FUSED_ACTIVATION, TorchPeer, fused_operands
from peers.vllm_common import load_ops

ISA = "vec"


class Peer(TorchPeer):
    """Weights are packed once; the router is torch's."""

    rounding = "relaxed: the kernel's own; logits and y in the storage type"

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        self.ops = load_ops()
        both, down, *self.biases = fused_operands(case, weights)
        self.gate_up = self._packed(both)
        del both
        self.down = self._packed(down)

    def _packed(self, matrices: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(matrices)
        self.ops.prepack_moe_weight(matrices, result, ISA)
        return result

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, ids = self.route(x)
        y = torch.empty_like(x)
        self.ops.cpu_fused_moe(y, x, self.gate_up, self.down, *self.biases, scale,
                               ids.to(torch.int32), False, FUSED_ACTIVATION[self.case.body], ISA)
        return y
