"""moe.plan is the sort of moe.dispatch, and `source` is the inverse of its slots."""

from __future__ import annotations

import numpy as np
import pytest
from moe import artifact

EXPERTS, TOP_K = 5, 3

IR = """
func.func @both(%ids: tensor<?x3xi32>, %capacity: tensor<index_t>, %m: tensor<?xi32>)
    -> (tensor<6xi32>, tensor<?x3xi32>, tensor<?xi32>, tensor<6xi32>, tensor<?x3xi32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %ids, %c0 : tensor<?x3xi32>
  %M = tensor.dim %m, %c0 : tensor<?xi32>
  %wide = tensor.extract %capacity[] : tensor<index_t>
  %c = arith.index_cast %wide : index_t to index
  %o = tensor.empty() : tensor<6xi32>
  %s = tensor.empty(%T) : tensor<?x3xi32>
  %r = tensor.empty(%M) : tensor<?xi32>
  %p:3 = moe.plan ids(%ids : tensor<?x3xi32>) capacity(%c) order(choice_major)
      outs(%o, %s, %r : tensor<6xi32>, tensor<?x3xi32>, tensor<?xi32>)
  %d:2 = moe.dispatch ids(%ids : tensor<?x3xi32>) capacity(%c) order(choice_major)
      outs(%o, %s : tensor<6xi32>, tensor<?x3xi32>)
  return %p#0, %p#1, %p#2, %d#0, %d#1
      : tensor<6xi32>, tensor<?x3xi32>, tensor<?xi32>, tensor<6xi32>, tensor<?x3xi32>
}
""".replace("index_t", "i64")


@pytest.fixture(scope="module", name="both")
def compiled():
    """The function above, compiled."""
    return artifact.compile_layer(IR, "both")


@pytest.mark.parametrize("tokens", [0, 1, 7, 64])
@pytest.mark.parametrize("capacity", [0, 2, 1000])
def test_source_is_the_inverse_of_slots(both, tokens, capacity):
    """Offsets and slots are dispatch's; source[slots[t, j]] = t·k + j; the tail is −1."""
    random = np.random.default_rng(tokens * 1009 + capacity)
    ids = random.integers(-1, EXPERTS + 1, (tokens, TOP_K), dtype=np.int32)
    rows = tokens * TOP_K + 4  # M may be larger than T·k
    offsets, dispatched = np.zeros((2, EXPERTS + 1), np.int32)
    slots, slots2 = np.zeros((2, tokens, TOP_K), np.int32)
    source = np.full(rows, 99, np.int32)
    arrays = (ids, np.array(capacity, np.int64), np.zeros(rows, np.int32), offsets, slots, source,
              dispatched, slots2)
    both(*map(artifact.view, arrays))
    np.testing.assert_array_equal(offsets, dispatched)
    np.testing.assert_array_equal(slots, slots2)
    expected = np.full(rows, -1, np.int32)
    placed = slots.ravel() >= 0
    expected[slots.ravel()[placed]] = np.flatnonzero(placed)
    np.testing.assert_array_equal(source, expected)
    assert offsets[-1] == placed.sum()


CHUNKED = """
func.func @plan(%ids: tensor<?x3xi32>, %m: tensor<?xi32>)
    -> (tensor<6xi32>, tensor<?x3xi32>, tensor<?xi32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %ids, %c0 : tensor<?x3xi32>
  %M = tensor.dim %m, %c0 : tensor<?xi32>
  %o = tensor.empty() : tensor<6xi32>
  %s = tensor.empty(%T) : tensor<?x3xi32>
  %r = tensor.empty(%M) : tensor<?xi32>
  %p:3 = moe.plan ids(%ids : tensor<?x3xi32>)
      outs(%o, %s, %r : tensor<6xi32>, tensor<?x3xi32>, tensor<?xi32>)
  return %p#0, %p#1, %p#2 : tensor<6xi32>, tensor<?x3xi32>, tensor<?xi32>
}
"""


@pytest.fixture(scope="module", name="plan")
def compiled_plan():
    """A plan without a capacity, which is sorted in chunks of tokens."""
    return artifact.compile_layer(CHUNKED, "plan")


@pytest.mark.parametrize("tokens", [0, 1, 255, 256, 257, 1000, 8191, 8193, 20000])
@pytest.mark.parametrize("low, high", [(-2, EXPERTS + 3), (0, EXPERTS), (3, 4), (-1, 0)])
def test_chunks_are_sorted_stably(plan, tokens, low, high):
    """The stable sort of numpy, at and around the sizes of chunks (256 tokens, 32 chunks)."""
    ids = np.random.default_rng(tokens).integers(low, high, (tokens, TOP_K), dtype=np.int32)
    rows = tokens * TOP_K + 4
    offsets = np.full(EXPERTS + 1, 99, np.int32)
    slots, source = np.full((tokens, TOP_K), 99, np.int32), np.full(rows, 99, np.int32)
    plan(*map(artifact.view, (ids, np.zeros(rows, np.int32), offsets, slots, source)))
    flat = ids.ravel()
    routed = np.flatnonzero((flat >= 0) & (flat < EXPERTS))
    order = routed[np.argsort(flat[routed], kind="stable")]
    np.testing.assert_array_equal(offsets, np.searchsorted(flat[order], np.arange(EXPERTS + 1)))
    expected = np.full(rows, -1, np.int32)
    expected[:len(order)] = order
    np.testing.assert_array_equal(source, expected)
    placed = np.full(tokens * TOP_K, -1, np.int32)
    placed[order] = np.arange(len(order))
    np.testing.assert_array_equal(slots.ravel(), placed)
