"""A careful hand-written loop: rows sorted by expert, oneDNN on weights that were packed once."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from peers.torch_common import TorchPeer, stack, tensor


def _packed(matrices: list) -> torch.Tensor:
    """Matrices above each other, in oneDNN's layout."""
    return torch.ops.mkldnn._reorder_linear_weight(stack([matrices])[0], None)


def _linear(x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, matrix, bias, "none", [], "")


def _activate(body: str, first: torch.Tensor) -> torch.Tensor:
    """What is between an expert's two matmuls; gate comes before up."""
    if body == "relu2":
        return F.relu(first).square_()
    gate, up = first.chunk(2, dim=-1)
    if body == "swiglu":
        return F.silu(gate).mul_(up)
    gate, up = gate.clamp(max=7), up.clamp(-7, 7)
    return (up + 1) * (gate * torch.sigmoid(gate * 1.702))


class Peer(TorchPeer):
    """Two matmuls an expert that has rows; the weighted rows of a token are added in f32."""

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        self.experts = []
        for expert in map(weights.expert, range(case.experts)):
            first = [part for part in (expert.gate, expert.up) if part is not None]
            first_bias = down_bias = None
            if expert.down_bias is not None:
                first_bias = torch.cat([tensor(expert.gate_bias), tensor(expert.up_bias)])
                down_bias = tensor(expert.down_bias)
            self.experts.append((_packed(first), first_bias, _packed([expert.down]), down_bias))

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        case = self.case
        scale, ids = self.route(x)
        order = ids.flatten().argsort(stable=True)
        rows = x[order // case.top_k]
        sizes = torch.bincount(ids.flatten(), minlength=case.experts).tolist()
        done, start = torch.empty_like(rows), 0
        for (first, first_bias, down, down_bias), size in zip(self.experts, sizes):
            if not size:
                continue
            part = slice(start, start + size)
            inner = _activate(case.body, _linear(rows[part], first, first_bias))
            done[part] = _linear(inner, down, down_bias)
            start += size
        unsorted = torch.empty_like(done)
        unsorted[order] = done
        unsorted = unsorted.view(*ids.shape, case.hidden)
        return torch.einsum("tkh,tk->th", unsorted.float(), scale).to(x.dtype)
