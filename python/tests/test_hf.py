"""`moe.hf`: experts of transformers through a compiled artifact, against transformers' own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import make_references
import numpy as np
import pytest
import torch
import train_bytes
from transformers import MixtralConfig, OlmoeConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts
from transformers.models.olmoe.modeling_olmoe import OlmoeExperts

import moe.hf
from moe import agreement
from moe.artifact import Artifact, View, view

EXPERTS, HIDDEN, WIDTH, K = 5, 24, 17, 3
BOUND = {torch.float32: 1e-5, torch.bfloat16: 2.0 ** -7, torch.float16: 2.0 ** -10}


@pytest.fixture(autouse=True)
def registered(tmp_path_factory, monkeypatch):
    """Artifacts of the tests are kept for the session, away from the user's."""
    monkeypatch.setenv("MOE_CACHE", str(tmp_path_factory.getbasetemp() / "moe-cache"))
    moe.hf.register()


def make_experts(dtype: torch.dtype, act: str = "silu") -> torch.nn.Module:
    torch.manual_seed(1)
    config = OlmoeConfig(hidden_size=HIDDEN, intermediate_size=WIDTH, num_experts=EXPERTS,
                         hidden_act=act)
    experts = OlmoeExperts(config).to(dtype).requires_grad_(False)
    for parameter in experts.parameters():
        parameter.normal_(std=0.2)
    return experts


def make_input(tokens: int, dtype: torch.dtype, weight: torch.dtype) -> tuple[torch.Tensor, ...]:
    top = torch.randn(tokens, EXPERTS).softmax(-1).topk(K)
    return torch.randn(tokens, HIDDEN).to(dtype), top.indices, top.values.to(weight)


def run(experts: torch.nn.Module, implementation: str, *inputs: torch.Tensor) -> np.ndarray:
    experts.config._experts_implementation = implementation
    return experts(*inputs).float().numpy()


@pytest.mark.parametrize("tokens", [0, 1, 40])
@pytest.mark.parametrize("dtype,weight", [
    (torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32), (torch.float16, torch.float16)])
def test_experts_agree_with_transformers(dtype, weight, tokens):
    """"batched_mm" rounds where "grouped_mm" does, and takes widths that aren't multiples of 8."""
    experts, inputs = make_experts(dtype), make_input(tokens, dtype, weight)
    ours = run(experts, "moe", *inputs)
    assert ours.shape == (tokens, HIDDEN)
    assert agreement.error(ours, run(experts, "batched_mm", *inputs)) < BOUND[dtype]


def test_relu_and_mixtral():
    inputs = make_input(9, torch.float32, torch.float32)
    experts = make_experts(torch.float32, "relu")
    assert agreement.error(run(experts, "moe", *inputs), run(experts, "eager", *inputs)) < 1e-5
    config = MixtralConfig(hidden_size=HIDDEN, intermediate_size=WIDTH, num_local_experts=EXPERTS)
    mixtral = MixtralExperts(config).requires_grad_(False)
    mixtral.load_state_dict(make_experts(torch.float32).state_dict())
    assert agreement.error(run(mixtral, "moe", *inputs), run(mixtral, "eager", *inputs)) < 1e-5


def test_ids_beyond_the_last_expert_are_nowhere():
    experts = make_experts(torch.float32)
    hidden, ids, weights = make_input(9, torch.float32, torch.float32)
    ids[::2, 1] = EXPERTS  # what transformers' expert parallelism marks with
    assert agreement.error(run(experts, "moe", hidden, ids, weights),
                           run(experts, "eager", hidden, ids, weights)) < 1e-5


def test_threads_share_an_artifact():
    experts, inputs = make_experts(torch.bfloat16), make_input(33, torch.bfloat16, torch.bfloat16)
    alone = run(experts, "moe", *inputs)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: experts(*inputs).float().numpy(), range(16)):
            assert np.array_equal(got, alone)


@torch.no_grad()
def test_the_whole_byte_model():
    """The loss with our experts in; both layers share one artifact."""
    text = train_bytes.windows(train_bytes.corpus.HELDOUT.read_bytes())[:24]
    model, bits = make_references.load_bytes_model(), {}
    moe.hf._artifact.cache_clear()
    for implementation in ("grouped_mm", "moe"):
        model.set_experts_implementation(implementation)
        bits[implementation], _ = train_bytes.evaluate(model, text)
    assert abs(bits["moe"] - bits["grouped_mm"]) < 0.01
    assert moe.hf._artifact.cache_info().misses == 1


@torch.enable_grad()  # peers of the benchmarks turn it off, in a process that their tests share
def test_refusals_say_what_to_do():
    inputs = make_input(2, torch.float32, torch.float32)
    experts = make_experts(torch.float32)
    experts.down_proj.requires_grad_(True)
    with pytest.raises(NotImplementedError, match="no backward pass: .*torch.no_grad"):
        run(experts, "moe", *inputs)
    with pytest.raises(NotImplementedError, match="hidden_states is torch.float64"):
        run(make_experts(torch.float64), "moe", inputs[0].double(), *inputs[1:])
    with pytest.raises(NotImplementedError, match="activation is Tanh"):
        run(make_experts(torch.float32, "tanh"), "moe", *inputs)
    experts = make_experts(torch.float32)
    experts.down_proj = torch.nn.Parameter(
        experts.down_proj.mT.contiguous().mT, requires_grad=False)
    with pytest.raises(NotImplementedError, match="down_proj is not row-major"):
        run(experts, "moe", *inputs)


def test_artifact_errors_name_the_tensor():
    experts, inputs = make_experts(torch.float32), make_input(2, torch.float32, torch.float32)
    run(experts, "moe", *inputs)
    artifact = moe.hf._artifact(moe.hf.Experts(EXPERTS, HIDDEN, WIDTH, K, "f32", "f32", "silu"))
    views = [moe.hf._view(t) for t in (*inputs, experts.gate_up_proj, experts.down_proj)]
    wrong = view(np.zeros((3, HIDDEN), np.float32))  # results: T is 2
    with pytest.raises(ValueError, match=r"tensor 5, \(3, 24\) f32"):
        artifact(*views, wrong)
    with pytest.raises(ValueError, match="tensor 1, .*i32"):
        artifact(views[0], View(views[1].address, views[1].shape, "i32"), *views[2:], wrong)
    with pytest.raises(RuntimeError, match="no compiled function 'other'"):
        Artifact(artifact.path, "other")
    with pytest.raises(ValueError, match="not row-major"):
        view(np.zeros((4, 4))[:, ::2])
