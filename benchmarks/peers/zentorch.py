"""ZenDNN's fused experts through zentorch, called as vLLM calls them."""

from __future__ import annotations

import torch
import zentorch  # noqa: F401  registers the op

from peers.torch_common import TorchPeer, gate_up, tensor


class Peer(TorchPeer):
    """zentorch packs the weights when it first meets them; the router is torch's."""

    rounding = "relaxed: the kernel's own; logits and y in the storage type"

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        self.gate_up, self.down = gate_up(weights), tensor(weights.down)

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, ids = self.route(x)
        y = torch.empty_like(x)
        torch.ops.zentorch.zentorch_fused_moe(y, x, self.gate_up, self.down, None, None, scale,
                                              ids.to(torch.int32), False, "silu", None, None)
        return y
