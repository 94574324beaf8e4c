"""`models/ROUNDING.md` put into numpy, against the blocks of transformers, in bfloat16.

Hidden states and weights are small multiples of powers of two, so that every matmul is exact in
f32 whatever its order of summation: what is left is the rounding points themselves. They have to
be met bit for bit, but for the exponentials (f32 of numpy and torch differ by an ulp, which may
cross a rounding boundary): hence a few elements in a thousand may differ, by one bf16 ulp of the
largest term.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import DeepseekV3Config, MixtralConfig, OlmoeConfig, Qwen3MoeConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from moe import agreement
from moe.tensors import round_bf16 as bf16

TOKENS, HIDDEN, WIDTH, EXPERTS, K = 96, 32, 16, 8, 3
FAMILIES = {
    "mixtral": (MixtralSparseMoeBlock, lambda: MixtralConfig(
        hidden_size=HIDDEN, intermediate_size=WIDTH, num_local_experts=EXPERTS,
        num_experts_per_tok=K)),
    "olmoe": (OlmoeSparseMoeBlock, lambda: OlmoeConfig(
        hidden_size=HIDDEN, intermediate_size=WIDTH, num_experts=EXPERTS, num_experts_per_tok=K)),
    "qwen3_moe": (Qwen3MoeSparseMoeBlock, lambda: Qwen3MoeConfig(
        hidden_size=HIDDEN, moe_intermediate_size=WIDTH, num_experts=EXPERTS,
        num_experts_per_tok=K, norm_topk_prob=True)),
    "deepseek_v3": (DeepseekV3MoE, lambda: DeepseekV3Config(
        hidden_size=HIDDEN, moe_intermediate_size=WIDTH, n_routed_experts=EXPERTS,
        num_experts_per_tok=K, n_group=4, topk_group=2, n_shared_experts=2)),
}
Array = np.ndarray


def f32(x: Array) -> Array:
    return np.asarray(x, np.float32)


def matmul(x: Array, w: Array) -> Array:
    """x·wᵀ, exact here, as f32."""
    exact = np.asarray(x, np.float64) @ np.asarray(w, np.float64).T
    return f32(exact)


def swiglu(x: Array, gate: Array, up: Array, down: Array) -> Array:
    """§1, steps 1–4."""
    g, u = bf16(matmul(x, gate)), bf16(matmul(x, up))
    a = bf16(g / (1 + np.exp(-g)))
    return bf16(matmul(bf16(a * u), down))


def softmax_router(logits: Array, renormalize: bool, cast: bool) -> tuple[Array, Array]:
    """§2–4: (ids, weights)."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    ids = np.argsort(-p, -1, kind="stable")[:, :K]
    v = np.take_along_axis(p, ids, 1)
    if renormalize:
        v = v / v.sum(-1, keepdims=True)
    return ids, bf16(v) if cast else v


def deepseek_router(logits: Array, bias: Array, scale: float) -> tuple[Array, Array]:
    """§5, steps 2–9."""
    s = 1 / (1 + np.exp(-logits))
    groups = (s + bias).reshape(len(s), 4, -1)
    kept = np.argsort(-np.sort(groups, -1)[..., -2:].sum(-1), -1, kind="stable")[:, :2]
    mask = np.zeros(groups.shape[:2], bool)
    np.put_along_axis(mask, kept, True, 1)
    c = np.where(mask[..., None], groups, -np.inf).reshape(s.shape)
    ids = np.argsort(-c, -1, kind="stable")[:, :K]
    v = np.take_along_axis(s, ids, 1)
    return ids, v / (v.sum(-1, keepdims=True) + f32(1e-20)) * f32(scale)


def weighted_sum(d: Array, ids: Array, weights: Array, narrow: bool, experts: str) -> Array:
    """§1, "Weight and sum": `d` is `T×k×H`."""
    q = d * weights[..., None]  # f32
    if narrow:
        q = bf16(q)
    if experts == "grouped_mm":
        total = np.zeros_like(q[:, 0])
        for j in range(K):
            total = total + q[:, j]
        return bf16(total)
    y, order = np.zeros_like(q[:, 0]), np.argsort(ids, -1)
    for j in range(K):
        y = bf16(y + bf16(np.take_along_axis(q, order[:, j, None, None], 1)[:, 0]))
    return y


def exact_values(random: np.random.Generator, shape: tuple[int, ...], step: float) -> torch.Tensor:
    """Small integers times a power of two: 5 bits each."""
    return torch.tensor(random.integers(-16, 17, shape) * step, dtype=torch.float32)


def make_block(family: str, random: np.random.Generator) -> torch.nn.Module:
    cls, config = FAMILIES[family]
    block = cls(config()).eval()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            step = 2.0 ** -6 if "gate.weight" in name else 2.0 ** -5
            parameter.copy_(exact_values(random, tuple(parameter.shape), step))
    block = block.to(torch.bfloat16)
    if family == "deepseek_v3":  # the buffer stays f32 in a model (_keep_in_fp32_modules_strict)
        bias = torch.tensor(random.normal(size=EXPERTS) * 0.1, dtype=torch.float32)
        block.gate.e_score_correction_bias = torch.nn.Buffer(bias)
    return block


def emulate(family: str, block: torch.nn.Module, hidden: Array, experts: str) -> tuple[Array, ...]:
    """(ids, weights, y, selection keys) as ROUNDING.md has it."""
    def get(name: str) -> Array:
        return dict(block.named_parameters())[name].detach().float().numpy()

    logits = matmul(hidden, get("gate.weight"))
    if family == "deepseek_v3":
        bias = block.gate.e_score_correction_bias.numpy()
        ids, weights = deepseek_router(logits, bias, 2.5)
    else:
        logits = bf16(logits)
        ids, weights = softmax_router(logits, family != "olmoe", family != "mixtral")
    d = np.zeros((TOKENS, K, HIDDEN), np.float32)
    for e in range(EXPERTS):
        gate, up = np.split(get("experts.gate_up_proj")[e], 2)
        t, j = np.nonzero(ids == e)
        d[t, j] = swiglu(hidden[t], gate, up, get("experts.down_proj")[e])
    y = weighted_sum(d, ids, weights, family in ("olmoe", "qwen3_moe"), experts)
    if family == "deepseek_v3":
        shared = [get(f"shared_experts.{n}_proj.weight") for n in ("gate", "up", "down")]
        y = bf16(y + swiglu(hidden, *shared))
    return ids, weights, y, logits


@pytest.mark.parametrize("experts", ["eager", "grouped_mm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_round_where_the_page_says(family, experts):
    random = np.random.default_rng(7)
    block = make_block(family, random)
    block.experts.config._experts_implementation = experts
    hidden = exact_values(random, (TOKENS, HIDDEN), 2.0 ** -3)
    with torch.no_grad():
        _, their_weights, their_ids = block.gate(hidden.bfloat16())
        theirs = block(hidden.bfloat16()[None])[0].float().numpy()
    ids, weights, y, keys = emulate(family, block, hidden.numpy(), experts)

    got = agreement.routing(ids, their_ids.numpy(), keys)
    same = (np.sort(ids) == np.sort(their_ids.numpy())).all(-1)
    assert same.sum() > TOKENS * 0.8 and (family == "deepseek_v3" or got.wrong == 0)
    assert their_weights.dtype == (torch.bfloat16 if family in ("olmoe", "qwen3_moe")
                                   else torch.float32)
    order, their_order = np.argsort(ids), np.argsort(their_ids.numpy())
    ours = np.take_along_axis(weights, order, 1)[same]
    np.testing.assert_allclose(
        ours, np.take_along_axis(their_weights.float().numpy(), their_order, 1)[same],
        rtol=2.0 ** -7 if family in ("olmoe", "qwen3_moe") else 1e-6)
    off = y[same] != theirs[same]
    assert off.mean() < 0.005, f"{off.sum()} of {off.size} elements differ"
    assert agreement.error(y[same], theirs[same]) < 2.0 ** -7
