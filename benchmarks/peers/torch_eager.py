"""A careful hand-written loop: rows sorted by expert, oneDNN on weights that were packed once."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from peers.torch_common import TorchPeer, gate_up, tensor


def _packed(matrix: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(matrix, None)


def _linear(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, matrix, None, "none", [], "")


class Peer(TorchPeer):
    """Two matmuls an expert that has rows; the weighted rows of a token are added in f32."""

    def prepare(self, case, weights) -> None:
        self.keep(case, weights)
        both = gate_up(weights)
        self.gate_up = [_packed(matrix) for matrix in both]
        del both
        self.down = [_packed(tensor(matrix)) for matrix in weights.down]

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        case = self.case
        scale, ids = self.route(x)
        order = ids.flatten().argsort(stable=True)
        rows = x[order // case.top_k]
        sizes = torch.bincount(ids.flatten(), minlength=case.experts).tolist()
        done, start = torch.empty_like(rows), 0
        for expert, size in enumerate(sizes):
            if not size:
                continue
            part = slice(start, start + size)
            both = _linear(rows[part], self.gate_up[expert])
            inner = F.silu(both[:, :case.inner]) * both[:, case.inner:]
            done[part] = _linear(inner, self.down[expert])
            start += size
        unsorted = torch.empty_like(done)
        unsorted[order] = done
        unsorted = unsorted.view(*ids.shape, case.hidden)
        return torch.einsum("tkh,tk->th", unsorted.float(), scale).to(x.dtype)
