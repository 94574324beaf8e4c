"""The fused MoE of triton_kernels.py as a peer: buffers, launches, and tiles by trying them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton

from cases import Case
from gpu import triton_kernels as kernels
from gpu.torch_peers import Peer
from data import Weights


class Tiles(NamedTuple):
    """Of a product: a block of rows × columns × sum, and how Triton pipelines it."""

    rows: int
    columns: int
    sum: int
    warps: int
    stages: int
    group: int = 8


# Few, since compiling one takes seconds.
FEW = (Tiles(16, 64, 128, 4, 4), Tiles(16, 128, 128, 4, 3), Tiles(16, 32, 256, 4, 3))
SOME = (Tiles(32, 64, 128, 4, 3), Tiles(64, 64, 64, 4, 4), Tiles(64, 128, 64, 8, 3))
MANY = (Tiles(128, 64, 64, 8, 4), Tiles(128, 128, 64, 8, 3), Tiles(128, 256, 64, 8, 3))


def candidates(rows_per_expert: float) -> tuple[Tiles, ...]:
    """Tiles that are worth trying."""
    return FEW if rows_per_expert <= 4 else SOME if rows_per_expert <= 64 else MANY


class Bound:
    """The launches on one x, with the buffers between them."""

    def __init__(self, peer: TritonMoE, x: torch.Tensor) -> None:
        case, like = peer.case, {"device": x.device}
        self.peer, self.x, self.choices = peer, x, len(x) * case.top_k
        self.scales = torch.empty(self.choices, **like)
        self.ids = torch.empty(self.choices, dtype=torch.int32, **like)
        self.order = torch.empty_like(self.ids)
        # Counts, then cursors: one fill clears both.
        self.numbers = torch.empty(2, case.experts, dtype=torch.int32, **like)
        self.inner = torch.empty(self.choices, case.inner, dtype=x.dtype, **like)
        self.rows = torch.empty(self.choices, case.hidden, dtype=x.dtype, **like)
        self.y = torch.empty_like(x)
        self.experts_padded = triton.next_power_of_2(case.experts)
        self.first = self.second = candidates(self.choices / case.experts)[0]

    def route(self) -> None:
        """Weights and ids, and the rows of each expert."""
        case, padded = self.peer.case, self.experts_padded
        logits = F.linear(self.x, self.peer.router)
        kernels.choose[(len(self.x),)](
            logits, self.scales, self.ids, case.experts, E=padded, K=case.top_k,
            KP=triton.next_power_of_2(case.top_k), RENORMALIZE=case.renormalize, num_warps=1)
        self.numbers.zero_()
        counts, cursors = self.numbers
        block = 32 if padded > 128 else 128  # `place` compares a block with all experts
        grid = (triton.cdiv(self.choices, block),)
        kernels.count[grid](self.ids, counts, self.choices, E=padded, BLOCK=block)
        kernels.place[grid](self.ids, counts, cursors, self.order, self.choices, case.experts,
                            E=padded, BLOCK=block)

    def _launch(self, kernel, tiles: Tiles, columns: int, *operands, **constants) -> None:
        case = self.peer.case
        row_tiles = min(self.choices, triton.cdiv(self.choices, tiles.rows) + case.experts)
        grid = (row_tiles * triton.cdiv(columns, tiles.columns),)
        kernel[grid](*operands, self.numbers[0], case.experts, row_tiles, case.hidden, case.inner,
                     **constants, E=self.experts_padded, BM=tiles.rows, BN=tiles.columns,
                     BK=tiles.sum, GROUP=tiles.group, PRECISION=self.peer.precision,
                     num_warps=tiles.warps, num_stages=tiles.stages)

    def multiply(self) -> None:
        """gate and up."""
        self._launch(kernels.gate_up, self.first, self.peer.case.inner, self.x,
                     self.peer.gate_and_up, self.inner, self.order, K=self.peer.case.top_k)

    def multiply_down(self) -> None:
        """down, with weights."""
        self._launch(kernels.down, self.second, self.peer.case.hidden, self.inner,
                     self.peer.down_rows, self.rows, self.order, self.scales)

    def __call__(self) -> torch.Tensor:
        self.route()
        self.multiply()
        self.multiply_down()
        case, block = self.peer.case, 1024
        kernels.add[(len(self.x), triton.cdiv(case.hidden, block))](
            self.rows, self.y, case.hidden, K=case.top_k, BLOCK=block)
        return self.y

    def tune(self, time_one: Callable[[Callable], float]) -> None:
        """The fastest tiles of each product, of those that this GPU has room for."""
        self()
        for name, run in (("first", self.multiply), ("second", self.multiply_down)):
            best = math.inf
            for tiles in candidates(self.choices / self.peer.case.experts):
                before = getattr(self, name)
                setattr(self, name, tiles)
                try:
                    run()
                    seconds = min(time_one(run) for _ in range(5))
                except triton.runtime.errors.OutOfResources:
                    seconds = math.inf
                if seconds < best:
                    best = seconds
                else:
                    setattr(self, name, before)


class TritonMoE(Peer):
    """SwiGLU, with a softmax router without bias."""

    def __init__(self, case: Case, weights: Weights, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__(case, weights, tensors)
        self.gate_and_up, self.down_rows = self.first.mT, self.down.mT  # E×2I×H, E×H×I
        self.precision = "ieee" if weights.dtype == "bf16" else "tf32x3"

    @staticmethod
    def refusal(case: Case, dtype: str) -> str | None:
        if case.body != "swiglu" or case.score != "softmax" or case.scale != 1:
            return "its kernels are for SwiGLU with a softmax router"
        return None

    def bind(self, x: torch.Tensor) -> Bound:
        return Bound(self, x)
