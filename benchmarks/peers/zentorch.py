"""ZenDNN's fused experts through zentorch, called as vLLM calls them."""

from __future__ import annotations

import torch
import zentorch  # noqa: F401  registers the op

from peers.torch_common import FUSED_ACTIVATION, TorchPeer, fused_operands


class Peer(TorchPeer):
    """The router is torch's. zentorch packs weights when it first meets them, in their place."""

    rounding = "relaxed: the kernel's own; logits and y in the storage type"

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        both, down, *biases = fused_operands(case, weights)
        shared = down.data_ptr() == weights.tensors["down"].ctypes.data
        self.operands = both, down.clone() if shared else down, *biases

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, ids = self.route(x)
        y = torch.empty_like(x)
        torch.ops.zentorch.zentorch_fused_moe(y, x, *self.operands, scale, ids.to(torch.int32),
                                              False, FUSED_ACTIVATION[self.case.body], None, None)
        return y
