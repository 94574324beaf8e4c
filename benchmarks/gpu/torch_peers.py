"""Peers that are programs of torch: grouped_mm, a loop of cuBLAS products, and its products alone.

They work on any device of torch, so that their results can be tested where no GPU is:

    peer = Peer(case, weights, tensors)   # tensors: role → torch.Tensor on the device
    run = peer.bind(x)                    # x: T×H, whose values may change between calls
    y = run()                             # T×H

`refusal(case, dtype)` says why a peer cannot run a case, if it cannot. `can_graph`: it waits for
nothing, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from cases import Case
from data import Weights
from peers.torch_common import TorchPeer


def activate(body: str, first: torch.Tensor) -> torch.Tensor:
    """What is between an expert's two products; gate above up, gpt-oss's interleaved."""
    if body == "relu2":
        return F.relu(first).square()
    if body == "swiglu":
        gate, up = first.chunk(2, dim=-1)
        return F.silu(gate) * up
    gate, up = first[..., 0::2].clamp(max=7), first[..., 1::2].clamp(-7, 7)
    return (up + 1) * (gate * torch.sigmoid(gate * 1.702))


class Peer(TorchPeer):
    """Weights of the experts as K×N matrices: E×H×(all of the first product) and E×I×H."""

    can_graph = True
    is_layer = True

    def __init__(self, case: Case, weights: Weights, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.keep(case, weights)
        device = tensors["down"].device
        for name in ("router", "router_bias", "bias"):
            small = getattr(self, name)
            setattr(self, name, None if small is None else small.to(device))
        self.first_bias, self.down_bias = tensors.get("gate_up_bias"), tensors.get("down_bias")
        if case.body == "gpt_oss":
            self.first, self.down = tensors["gate_up"], tensors["down"]
        else:
            if "first" not in tensors:  # the peers share it
                both = [tensors[role] for role in ("gate", "up") if role in tensors]
                tensors["first"] = torch.cat(both, dim=1) if len(both) > 1 else both[0]
            self.first, self.down = tensors["first"].mT, tensors["down"].mT

    @staticmethod
    def refusal(case: Case, dtype: str) -> str | None:
        return None

    def bind(self, x: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: self.run(x)

    def sort(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weights of the choices, T×k; the sorted experts; the choices in their order."""
        scale, ids = self.route(x)
        experts, order = ids.flatten().sort(stable=True)
        return scale, experts, order

    def combine(self, rows: torch.Tensor, scale: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Weighted rows back at their tokens, added in f32."""
        unsorted = torch.empty_like(rows)
        unsorted[order] = rows
        parts = unsorted.view(*scale.shape, -1).float() * scale.float()[..., None]
        return parts.sum(dim=1).to(rows.dtype)


def _grouped_mm(a: torch.Tensor, b: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """M×K · E×K×N, group e up to row ends[e]; it is public in later versions of torch."""
    function = getattr(F, "grouped_mm", None) or torch._grouped_mm
    return function(a, b, offs=ends)


class GroupedMM(Peer):
    """torch's grouped products, as transformers' experts call them."""

    @staticmethod
    def refusal(case: Case, dtype: str) -> str | None:
        if not hasattr(F, "grouped_mm") and not hasattr(torch, "_grouped_mm"):
            return f"torch {torch.__version__} has no grouped_mm"
        return None if dtype == "bf16" else "grouped_mm is for bf16"

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, experts, order = self.sort(x)
        ends = torch.searchsorted(experts, torch.arange(self.case.experts, device=x.device),
                                  right=True).to(torch.int32)
        first = _grouped_mm(x[order // self.case.top_k], self.first, ends)
        if self.first_bias is not None:
            first = first + self.first_bias[experts]
        rows = _grouped_mm(activate(self.case.body, first), self.down, ends)
        if self.down_bias is not None:
            rows = rows + self.down_bias[experts]
        return self.combine(rows, scale, order)


class CublasLoop(Peer):
    """Two products of cuBLAS for each expert that has rows; the host waits for their numbers."""

    can_graph = False

    @torch.inference_mode()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, experts, order = self.sort(x)
        gathered = x[order // self.case.top_k]
        rows, start = torch.empty_like(gathered), 0
        for e, size in enumerate(torch.bincount(experts, minlength=self.case.experts).tolist()):
            if not size:
                continue
            part = slice(start, start + size)
            first = gathered[part] @ self.first[e]
            if self.first_bias is not None:
                first += self.first_bias[e]
            torch.mm(activate(self.case.body, first), self.down[e], out=rows[part])
            if self.down_bias is not None:
                rows[part] += self.down_bias[e]
            start += size
        return self.combine(rows, scale, order)


class CublasGemms(Peer):
    """The loop's products alone, of the first batch's numbers of rows: no layer, but a roof."""

    is_layer = False

    @torch.inference_mode()
    def bind(self, x: torch.Tensor) -> Callable[[], None]:
        _, experts, order = self.sort(x)
        gathered = x[order // self.case.top_k]
        sizes = torch.bincount(experts, minlength=self.case.experts).tolist()
        first = torch.empty(len(order), self.first.shape[2], dtype=x.dtype, device=x.device)
        inner = torch.randn(len(order), self.case.inner, device=x.device).to(x.dtype)
        rows = torch.empty_like(gathered)

        @torch.inference_mode()
        def run() -> None:
            start = 0
            for e, size in enumerate(sizes):
                part = slice(start, start + size)
                if size:
                    torch.mm(gathered[part], self.first[e], out=first[part])
                    torch.mm(inner[part], self.down[e], out=rows[part])
                start += size
        return run
