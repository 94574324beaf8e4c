"""What the peers that are programs of torch share."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from cases import Case
from data import Weights

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor on the memory of an array; uint16 stands for bf16."""
    result = torch.from_numpy(array)
    return result.view(torch.bfloat16) if array.dtype == np.uint16 else result


class TorchPeer:
    """Threads, inputs and results of a peer whose tensors are torch's."""

    rounding = "torch: logits, gate, up, their product and each expert's rows in the storage type"

    def __init__(self) -> None:
        torch.set_grad_enabled(False)
        self.case: Case | None = None
        self.dtype = torch.float32

    def keep(self, case: Case, weights: Weights) -> None:
        """The part of `prepare` that is the same for all."""
        self.case, self.dtype = case, DTYPES[weights.dtype]
        self.router = tensor(weights.router)

    @staticmethod
    def set_threads(count: int) -> None:
        torch.set_num_threads(count)

    def input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x).to(self.dtype)

    @staticmethod
    def result(y: torch.Tensor) -> np.ndarray:
        return y.double().numpy()

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Softmax over all experts, then the k largest: weights T×k in f32, and ids."""
        scores = F.linear(x, self.router).softmax(dim=-1, dtype=torch.float32)
        weights, ids = scores.topk(self.case.top_k, dim=-1)
        if self.case.renormalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, ids


def gate_up(weights: Weights) -> torch.Tensor:
    """E×2I×H, gate above up: the layout of transformers, vLLM and zentorch."""
    return torch.cat([tensor(weights.gate), tensor(weights.up)], dim=1)
