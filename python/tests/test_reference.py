"""`moe.reference` against torch and transformers on random input, and at the edges by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from moe import reference
from moe.reference import Groups, Renormalize

INF, NAN = np.inf, np.nan


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20261122)


# --- gate, against torch -------------------------------------------------------------------------

SCORES = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda x: x,
          "sqrt_softplus": lambda x: torch.nn.functional.softplus(x, threshold=1e9).sqrt()}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("experts,k", [(1, 1), (7, 3), (8, 8), (64, 8)])
@pytest.mark.parametrize("select_on", ["scores", "logits"])
def test_gate_is_topk_of_score_plus_bias(random, score, experts, k, select_on):
    logits, bias = random.normal(size=(50, experts)) * 3, random.normal(size=experts) * 0.1
    weights, ids = reference.gate(logits, k, score, bias=bias, select_on=select_on, scale=2.5)
    raw = SCORES[score](torch.tensor(logits))
    key = (raw if select_on == "scores" else torch.tensor(logits)) + torch.tensor(bias)
    expected = key.topk(k).indices
    assert np.array_equal(ids, expected)
    np.testing.assert_allclose(weights, 2.5 * raw.gather(1, expected), rtol=1e-12)


@pytest.mark.parametrize("renormalize", [Renormalize(), Renormalize(0.5), Renormalize(9, "clamp")])
def test_gate_renormalizes(random, renormalize):
    logits = random.normal(size=(20, 8))
    weights, _ = reference.gate(logits, 3, "sigmoid", renormalize=renormalize)
    top = torch.tensor(logits).sigmoid().topk(3).values
    total = top.sum(-1, keepdim=True)
    expected = top / (total + renormalize.eps if renormalize.mode == "add"
                      else total.clamp_min(renormalize.eps))
    np.testing.assert_allclose(weights, expected, rtol=1e-12)


def test_gate_softmax_over_the_selected(random):
    logits, mix = random.normal(size=(20, 8)), random.normal(size=(20, 8))
    weights, ids = reference.gate(logits, 3, scope="selected")
    values, expected = torch.tensor(logits).topk(3)
    assert np.array_equal(ids, expected)
    np.testing.assert_allclose(weights, values.softmax(-1), rtol=1e-12)
    weights, ids = reference.gate(logits, 3, scope="selected", mix=mix)
    assert np.array_equal(ids, expected)
    np.testing.assert_allclose(weights, torch.tensor(mix).gather(1, expected).softmax(-1))
    weights, _ = reference.gate(logits, 3, mix=mix)
    assert np.array_equal(weights, np.take_along_axis(mix, ids, 1))


def test_gate_is_the_router_of_deepseek_v3(random):
    config = DeepseekV3Config(hidden_size=16, n_routed_experts=32, n_group=8, topk_group=3,
                              num_experts_per_tok=4)
    router = DeepseekV3TopkRouter(config)
    with torch.no_grad():
        router.weight.normal_()
        router.e_score_correction_bias.normal_(std=0.2)
        logits, expected, order = router(torch.randn(64, 16))
    weights, ids = reference.gate(
        logits.numpy(), 4, "sigmoid", bias=router.e_score_correction_bias.numpy(),
        groups=Groups(8, 3, "top2_sum"), renormalize=Renormalize(1e-20), scale=2.5)
    by_id, theirs = np.argsort(ids), np.argsort(order.numpy())
    assert np.array_equal(np.sort(ids), np.sort(order))
    np.testing.assert_allclose(np.take_along_axis(weights, by_id, 1),
                               np.take_along_axis(expected.numpy(), theirs, 1), rtol=1e-5)


# --- gate, by hand -------------------------------------------------------------------------------

def test_gate_ties_go_to_the_lower_id():
    weights, ids = reference.gate([[1.0, 2.0, 2.0, 0.0, -0.0, 2.0]], 5, "none")
    assert ids.tolist() == [[1, 2, 5, 0, 3]]
    assert weights.tolist() == [[2, 2, 2, 1, 0]]


@pytest.mark.parametrize("row,expected,ids", [
    ([NAN, NAN, NAN], [0, 0], [0, 1]), ([-INF, -INF, -INF], [0, 0], [0, 1]),
    ([0, INF, NAN], [1, 0], [1, 0]), ([INF, 3, INF], [0.5, 0.5], [0, 2]),
    ([-INF, NAN, 7], [1, 0], [2, 0])])
def test_gate_softmax_of_nan_and_infinity(row, expected, ids):
    for scope in ("all", "selected"):
        weights, chosen = reference.gate([row], 2, scope=scope)
        assert weights.tolist() == [expected] and chosen.tolist() == [ids]
    weights, _ = reference.gate([row], 2, renormalize=Renormalize())
    total = sum(expected)
    assert weights.tolist() == [[w / total if total else 0.0 for w in expected]]


def test_gate_nan_in_the_key_and_in_mix():
    weights, ids = reference.gate([[INF, 1, 2]], 2, "none", bias=[-INF, 0, 0])
    assert ids.tolist() == [[2, 1]] and weights.tolist() == [[2, 1]]
    mix = [[NAN, 5.0, 6.0]]
    weights, ids = reference.gate([[9, 1, 2]], 2, mix=mix)
    assert ids.tolist() == [[0, 2]] and np.isnan(weights[0, 0]) and weights[0, 1] == 6
    weights, _ = reference.gate([[9, 1, 2]], 2, mix=mix, scope="selected")
    assert weights.tolist() == [[0, 1]]


def test_gate_saturated_sigmoid_ties_on_scores_and_not_on_logits():
    row = np.array([[18.0, 20.0, 30.0]], np.float32)
    _, ids = reference.gate(row, 2, "sigmoid", dtype=np.float32)
    assert ids.tolist() == [[0, 1]]
    _, ids = reference.gate(row, 2, "sigmoid", select_on="logits", dtype=np.float32)
    assert ids.tolist() == [[2, 1]]


def test_gate_group_mask_zero_lets_outsiders_win():
    logits = [[-1.0, -2.0, -3.0, -4.0]]
    for mask, expected in (("neg_inf", [0, 1]), ("zero", [2, 3])):
        _, ids = reference.gate(logits, 2, "none", groups=Groups(2, 1, mask=mask))
        assert ids.tolist() == [expected]


@pytest.mark.parametrize("arguments", [
    {"k": 0}, {"k": 5}, {"k": 2, "groups": Groups(4, 1)}, {"k": 1, "groups": Groups(3, 1)},
    {"k": 1, "groups": Groups(4, 1, "top2_sum")}, {"k": 1, "score": "sigmoid", "scope": "selected"},
    {"k": 1, "score": "tanh"}])
def test_gate_refuses(arguments):
    with pytest.raises(ValueError):
        reference.gate(np.zeros((1, 4)), **arguments)


# --- dispatch, expert, combine -------------------------------------------------------------------

def sorted_choices(ids, experts):
    """(expert, token, choice) of every choice that has a row, sorted: another way to the plan."""
    return sorted((e, t, j) for (t, j), e in np.ndenumerate(ids) if 0 <= e < experts)


@pytest.mark.parametrize("tokens,k,experts", [(0, 2, 3), (1, 1, 1), (17, 3, 5), (40, 2, 64)])
def test_dispatch_sorts_and_carries_payloads(random, tokens, k, experts):
    ids = random.integers(-2, experts + 2, (tokens, k))
    x, w = random.normal(size=(tokens, 4)), random.normal(size=(tokens, k))
    offsets, slots, (rows, row_weights) = reference.dispatch(ids, experts, [x], [w])
    plan = sorted_choices(ids, experts)
    assert offsets.tolist() == [sum(c[0] < e for c in plan) for e in range(experts + 1)]
    assert (slots < 0).sum() == ids.size - len(plan)
    for row, (_, t, j) in enumerate(plan):
        assert slots[t, j] == row and row_weights[row] == w[t, j]
        assert np.array_equal(rows[row], x[t])


def test_dispatch_keeps_rows_that_nobody_owns():
    x = np.ones((2, 1))
    _, _, (rows,) = reference.dispatch([[0], [9]], 2, [x], inits=[np.full((3, 1), 7.0)])
    assert rows.ravel().tolist() == [1, 7, 7]
    with pytest.raises(ValueError, match="1 rows don't fit"):
        reference.dispatch([[0], [9]], 2, [x], inits=[np.zeros((0, 1))])


@pytest.mark.parametrize("options,kept", [
    ({}, [[0, 0], [0, 1]]), ({"order": "choice_major"}, [[0, 0], [1, 0]]),
    ({"priority": [[1, 5], [NAN, 9], [5, 5]]}, [[0, 1], [1, 1]]),
    ({"tokens_per_group": 1}, [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]),
    ({"tokens_per_group": 2}, [[0, 0], [0, 1], [2, 0], [2, 1]])])
def test_dispatch_capacity(options, kept):
    offsets, slots, _ = reference.dispatch(np.zeros((3, 2), int), 1, capacity=2, **options)
    assert np.argwhere(slots >= 0).tolist() == kept
    assert offsets.tolist() == [0, len(kept)]


@pytest.mark.parametrize("capacity", [0, -3])
def test_dispatch_capacity_that_drops_everything(capacity):
    offsets, slots, _ = reference.dispatch(np.zeros((3, 2), int), 2, capacity=capacity)
    assert offsets.tolist() == [0, 0, 0] and (slots == -1).all()


def test_expert_keeps_the_init_of_the_empty():
    def body(e, rows, scale):
        return rows * scale + e, rows.sum(0)
    rows = np.arange(8.0).reshape(4, 2)
    y, total = reference.expert([1, 1, 3], [rows], [np.array([5.0, 10.0])],
                                [np.full((4, 2), -1.0), np.full((2, 2), -2.0)], body)
    assert y.tolist() == [[-1, -1], [21, 31], [41, 51], [-1, -1]]
    assert total.tolist() == [[-2, -2], [6, 8]]


def test_combine_drops_exactly_and_adds_the_base():
    rows = np.array([[1.0], [INF]])
    y = reference.combine(rows, [[-1, 0], [5, -1]], [[NAN, 2], [INF, NAN]], base=[[0.5], [0.25]])
    assert y.tolist() == [[2.5], [0.25]]


@pytest.mark.parametrize("tokens", [0, 1, 33])
def test_a_layer_is_the_sum_over_experts(random, tokens):
    """gate → dispatch → expert → combine against a dense torch computation."""
    experts, hidden, k = 6, 10, 3
    x, logits = random.normal(size=(tokens, hidden)), random.normal(size=(tokens, experts))
    matrices = random.normal(size=(experts, hidden, hidden))
    weights, ids = reference.gate(logits, k, renormalize=Renormalize())
    offsets, slots, (rows,) = reference.dispatch(ids, experts, [x])
    (rows,) = reference.expert(offsets, [rows], [matrices], [np.zeros_like(rows)],
                               lambda _, r, m: [np.tanh(r @ m)])
    y = reference.combine(rows, slots, weights, base=x)
    top = torch.tensor(logits).softmax(-1).topk(k)
    dense = torch.zeros(tokens, experts, dtype=torch.float64).scatter(
        1, top.indices, top.values / top.values.sum(-1, keepdim=True))
    every = torch.tanh(torch.einsum("th,ehi->tei", torch.tensor(x), torch.tensor(matrices)))
    np.testing.assert_allclose(y, x + (dense[..., None] * every).sum(1).numpy(), rtol=1e-10)
