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

    rounding = "strict: wherever the model rounds"

    def __init__(self) -> None:
        torch.set_grad_enabled(False)
        self.case: Case | None = None
        self.dtype = torch.float32

    def keep(self, case: Case, weights: Weights) -> None:
        """The part of `prepare` that is the same for all."""
        self.case, self.dtype = case, DTYPES[weights.dtype]
        small = {role: tensor(array) for role, array in weights.tensors.items() if array.ndim < 3}
        self.router, self.router_bias = small["router"], small.get("router_bias")
        self.bias = small.get("bias")
        if case.score == "sigmoid":  # whose models compute it in f32
            self.router = self.router.float()

    @staticmethod
    def set_threads(count: int) -> None:
        torch.set_num_threads(count)

    def input(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x).to(self.dtype)

    @staticmethod
    def result(y: torch.Tensor) -> np.ndarray:
        return y.double().numpy()

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights T×k in f32, and ids."""
        case = self.case
        logits = F.linear(x.to(self.router.dtype), self.router, self.router_bias)
        if case.score == "sigmoid":
            scores = logits.sigmoid()
            ids = (scores + self.bias).topk(case.top_k, dim=-1).indices
            weights = scores.gather(1, ids)
        else:
            weights, ids = logits.softmax(dim=-1, dtype=torch.float32).topk(case.top_k, dim=-1)
        if case.renormalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights * case.scale if case.scale != 1 else weights, ids


def stack(matrices: list[list[np.ndarray]]) -> torch.Tensor:
    """An expert's matrices above each other, expert after expert: E×(all rows)×columns."""
    first = matrices[0]
    rows = [matrix.shape[0] for matrix in first]
    result = torch.empty(len(matrices), sum(rows), first[0].shape[1],
                         dtype=tensor(first[0]).dtype)
    for parts, each in zip(result, matrices):
        for part, matrix in zip(parts.split(rows), each):
            part.copy_(tensor(matrix))
    return result


def gate_up(case: Case, weights: Weights) -> torch.Tensor:
    """E×2I×H, gate above up: the layout of transformers, vLLM and zentorch."""
    experts = map(weights.expert, range(case.experts))
    return stack([[expert.gate, expert.up] for expert in experts])


def down(case: Case, weights: Weights) -> torch.Tensor:
    """E×H×I, on the same memory where it has this layout already."""
    if case.body != "gpt_oss":
        return tensor(weights.tensors["down"])
    return stack([[weights.expert(e).down] for e in range(case.experts)])


FUSED_ACTIVATION = {"swiglu": "silu", "gpt_oss": "swigluoai"}


def fused_operands(case: Case, weights: Weights) -> tuple:
    """What zentorch and vLLM take: gate and up, down, and the biases of both."""
    both = gate_up(case, weights)
    if case.body == "gpt_oss":
        both = interleaved(both)
    return both, down(case, weights), *biases(weights)


def interleaved(halves: torch.Tensor) -> torch.Tensor:
    """Gate above up → a row of each in turn, along dimension 1."""
    gate, up = halves.chunk(2, dim=1)
    return torch.stack((gate, up), dim=2).flatten(1, 2)


def biases(weights: Weights) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Those of gate and up, interleaved, and of down: E×2I, E×H."""
    if "gate_up_bias" not in weights.tensors:
        return None, None
    return tensor(weights.tensors["gate_up_bias"]), tensor(weights.tensors["down_bias"])
