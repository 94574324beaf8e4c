"""What holds of every layer, whatever the routing: checked on compiled layers with random ids.

MOE_TEST_SEED chooses other ids. Sizes of the edges are always among them: no tokens, one token,
every expert chosen, nobody chosen, everybody on one expert, indices beyond 2³¹.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

from moe import reference
from moe.artifact import Artifact, View, compile_layer, view

SEED = int(os.environ.get("MOE_TEST_SEED", 20261122))
EXPERTS = 7
Array = np.ndarray


@pytest.fixture(scope="session", name="compiled")
def make_compiled(tmp_path_factory):
    """compile_layer with a folder of its own."""
    folder = tmp_path_factory.mktemp("layers")

    def compiled(text: str, name: str) -> Artifact:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MOE_CACHE", str(folder))
            return compile_layer(text, name)
    return compiled


@pytest.fixture(name="random")
def make_random(request) -> np.random.Generator:
    """Another stream for each test, the same one every time."""
    return np.random.default_rng([SEED, *request.node.name.encode()])


def draw_ids(random: np.random.Generator, kind: str, tokens: int, k: int) -> Array:
    """Ids of a routing that is random, or one of the edges."""
    if kind == "nowhere":
        return random.choice(np.int32([-1, EXPERTS, 2 ** 31 - 1, -2 ** 31]), (tokens, k))
    if kind == "one expert":
        return np.full((tokens, k), random.integers(EXPERTS), np.int32)
    if kind == "all experts":
        return np.int32([random.permutation(EXPERTS) for _ in range(tokens)]).reshape(tokens, -1)
    return random.integers(-2, EXPERTS + 2, (tokens, k), np.int32)


ROUTINGS = [("random", 0, 2), ("random", 1, 1), ("random", 1, 3), ("random", 33, 1),
            ("random", 40, 4), ("nowhere", 9, 2), ("one expert", 9, 2), ("all experts", 5, EXPERTS)]
every_routing = pytest.mark.parametrize("kind,tokens,k", ROUTINGS)


def call(artifact: Artifact, *arrays: Array) -> None:
    """Runs on arrays, which live as long as the call."""
    artifact(*map(view, arrays))


# --- dispatch -------------------------------------------------------------------------------------

# The options of the op, and the arguments of the function that they need.
LIMITS = {
    "dropless": "",
    "token_major": "capacity(%c)",
    "choice_major": "capacity(%c) order(choice_major)",
    "groups": "capacity(%c) tokens_per_group(%g)",
    "choice_major groups": "capacity(%c) order(choice_major) tokens_per_group(%g)",
    "priority": "capacity(%c) priority(%w : tensor<?x?xf32>) tokens_per_group(%g)",
}


def sort_text(options: str) -> str:
    """ids, a token payload x, a choice payload w (which is the priority as well), two limits."""
    return f"""
func.func @sort(%ids: tensor<?x?xi32>, %x: tensor<?x3xf32>, %w: tensor<?x?xf32>,
    %limits: tensor<2xi64>)
    -> (tensor<{EXPERTS + 1}xi32>, tensor<?x?xi32>, tensor<?x3xf32>, tensor<?xf32>) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %ids, %c0 : tensor<?x?xi32>
  %k = tensor.dim %ids, %c1 : tensor<?x?xi32>
  %m = arith.muli %t, %k : index
  %c64 = tensor.extract %limits[%c0] : tensor<2xi64>
  %g64 = tensor.extract %limits[%c1] : tensor<2xi64>
  %c = arith.index_cast %c64 : i64 to index
  %g = arith.index_cast %g64 : i64 to index
  %o = tensor.empty() : tensor<{EXPERTS + 1}xi32>
  %s = tensor.empty(%t, %k) : tensor<?x?xi32>
  %r = tensor.empty(%m) : tensor<?x3xf32>
  %q = tensor.empty(%m) : tensor<?xf32>
  %0:4 = moe.dispatch ids(%ids : tensor<?x?xi32>) tokens(%x : tensor<?x3xf32>)
      choices(%w : tensor<?x?xf32>) {options}
      outs(%o, %s, %r, %q : tensor<{EXPERTS + 1}xi32>, tensor<?x?xi32>, tensor<?x3xf32>,
           tensor<?xf32>)
  return %0#0, %0#1, %0#2, %0#3
      : tensor<{EXPERTS + 1}xi32>, tensor<?x?xi32>, tensor<?x3xf32>, tensor<?xf32>
}}
"""


def sort(artifact: Artifact, ids: Array, x: Array, w: Array, capacity: int = 0, group: int = 1
         ) -> tuple[Array, Array, Array, Array]:
    """offsets, slots, rows of x, rows of w."""
    outputs = (np.full(EXPERTS + 1, -99, np.int32), np.full(ids.shape, -99, np.int32),
               np.full((ids.size, 3), np.nan, np.float32), np.full(ids.size, np.nan, np.float32))
    call(artifact, ids, x, w, np.array([capacity, group]), *outputs)
    return outputs


def check_plan(ids: Array, offsets: Array, slots: Array) -> None:
    """Segments that follow each other, one row a choice that has any, sorted by choice."""
    assert offsets[0] == 0 and (np.diff(offsets) >= 0).all()
    rows, places = slots[slots >= 0], np.argwhere(slots >= 0)
    assert (slots[slots < 0] == -1).all()
    assert np.array_equal(np.sort(rows), np.arange(offsets[-1]))
    in_order = places[np.argsort(rows)]  # (token, choice) of every row
    experts = ids[tuple(in_order.T)]
    assert np.array_equal(experts, np.repeat(np.arange(EXPERTS), np.diff(offsets)))
    keys = [(e, t, j) for e, (t, j) in zip(experts, in_order.tolist())]
    assert keys == sorted(keys)


@every_routing
def test_every_choice_has_its_row(compiled, random, kind, tokens, k):
    ids = draw_ids(random, kind, tokens, k)
    x = random.normal(size=(tokens, 3)).astype(np.float32)
    w = random.normal(size=ids.shape).astype(np.float32)
    offsets, slots, rows, row_w = sort(compiled(sort_text(""), "sort"), ids, x, w)
    check_plan(ids, offsets, slots)
    somewhere = (ids >= 0) & (ids < EXPERTS)
    assert np.array_equal(slots >= 0, somewhere)
    for t, j in np.argwhere(somewhere):
        assert np.array_equal(rows[slots[t, j]], x[t]) and row_w[slots[t, j]] == w[t, j]


def choices_in_order(ids: Array, w: Array, option: str, begin: int, end: int, e: int
                     ) -> list[tuple[int, int]]:
    """The choices of expert e by tokens [begin, end), in the order in which it keeps them."""
    mine = [(t, j) for t, j in np.argwhere(ids == e).tolist() if begin <= t < end]
    if "choice_major" in option:
        mine.sort(key=lambda place: (place[1], place[0]))
    if option == "priority":
        mine.sort(key=lambda place: -w[place])
    return mine


@pytest.mark.parametrize("option", LIMITS)
@every_routing
def test_capacity_keeps_the_first(compiled, random, option, kind, tokens, k):
    """At most `capacity` choices of an expert in a group of tokens, the first in the order."""
    artifact = compiled(sort_text(LIMITS[option]), "sort")
    ids = draw_ids(random, kind, tokens, k)
    w = random.choice(np.float32([-1, 0, 2, 2.5]), ids.shape)  # Many ties.
    x = np.zeros((tokens, 3), np.float32)
    for capacity, group in ((-2, 3), (0, 1), (1, 4), (2, 1000), (3, 5), (2 ** 40, 2 ** 40)):
        offsets, slots, _, row_w = sort(artifact, ids, x, w, capacity, group)
        check_plan(ids, offsets, slots)
        limit = ids.size if option == "dropless" else max(capacity, 0)
        per_group = group if "tokens_per_group" in LIMITS[option] else max(tokens, 1)
        kept = [place for begin in range(0, tokens, per_group) for e in range(EXPERTS)
                for place in choices_in_order(ids, w, option, begin, begin + per_group, e)[:limit]]
        assert sorted(map(tuple, np.argwhere(slots >= 0).tolist())) == sorted(kept)
        assert all(row_w[slots[place]] == w[place] for place in kept)


# --- whole layers ---------------------------------------------------------------------------------

MAPS = """
#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>
"""


def layer_text(body: str, width: int, height: int) -> str:
    """Tokens x of `width` numbers through experts with a matrix height×width each; E isn't told.

    `body` computes %y from the rows %xe, their number %n, and the matrix %we.
    """
    w, x = f"tensor<?x{height}x{width}xf32>", f"tensor<?x{width}xf32>"
    y = f"tensor<?x{height}xf32>"
    return f"""{MAPS}
func.func @layer(%ids: tensor<?x?xi32>, %weights: tensor<?x?xf32>, %x: {x}, %w: {w})
    -> ({y}, {y}, tensor<?xi32>) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %ids, %c0 : tensor<?x?xi32>
  %k = tensor.dim %ids, %c1 : tensor<?x?xi32>
  %m = arith.muli %t, %k : index
  %e = tensor.dim %w, %c0 : {w}
  %e1 = arith.addi %e, %c1 : index
  %o0 = tensor.empty(%e1) : tensor<?xi32>
  %s0 = tensor.empty(%t, %k) : tensor<?x?xi32>
  %r0 = tensor.empty(%m) : {x}
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<?x?xi32>) tokens(%x : {x})
      outs(%o0, %s0, %r0 : tensor<?xi32>, tensor<?x?xi32>, {x})
  %d0 = tensor.empty(%m) : {y}
  %zeros = linalg.fill ins(%zero : f32) outs(%d0 : {y}) -> {y}
  %done = moe.expert offsets(%offsets : tensor<?xi32>) rows(%rows : {x}) params(%w : {w})
      outs(%zeros : {y}) {{
  ^bb0(%expert: index, %xe: {x}, %we: tensor<{height}x{width}xf32>):
    %n = tensor.dim %xe, %c0 : {x}
    {body}
    moe.yield %y : {y}
  }}
  %y0 = tensor.empty(%t) : {y}
  %y = moe.combine rows(%done : {y}) slots(%slots : tensor<?x?xi32>)
      weights(%weights : tensor<?x?xf32>) outs(%y0 : {y})
  return %y, %done, %offsets : {y}, {y}, tensor<?xi32>
}}
"""


def matmul_text(width: int, height: int) -> str:
    """%y = tanh(%xe · %weᵀ), so that rows of different experts don't add up to another's."""
    y = f"tensor<?x{height}xf32>"
    return layer_text(f"""%init = tensor.empty(%n) : {y}
    %blank = linalg.fill ins(%zero : f32) outs(%init : {y}) -> {y}
    %sum = linalg.matmul indexing_maps = [#mk, #nk, #mn]
        ins(%xe, %we : tensor<?x{width}xf32>, tensor<{height}x{width}xf32>)
        outs(%blank : {y}) -> {y}
    %y = math.tanh %sum : {y}""", width, height)


IDENTITY = layer_text("""%y = tensor.cast %xe : tensor<?x5xf32> to tensor<?x5xf32>""", 5, 5)


def run(artifact: Artifact, ids: Array, weights: Array, x: Array, w: Array
        ) -> tuple[Array, Array, Array]:
    """y, the rows of the experts, offsets."""
    experts, height = w.shape[:2]
    outputs = (np.full((len(x), height), np.nan, np.float32),
               np.full((ids.size, height), np.nan, np.float32), np.full(experts + 1, -99, np.int32))
    call(artifact, ids, weights, x, w, *outputs)
    return outputs


def draw_layer(random: np.random.Generator, tokens: int, width: int, height: int
               ) -> tuple[Array, Array]:
    """x and w."""
    return (random.normal(size=(tokens, width)).astype(np.float32),
            random.normal(size=(EXPERTS, height, width)).astype(np.float32))


@every_routing
def test_combine_of_dispatch_is_a_multiple(compiled, random, kind, tokens, k):
    """Experts that return their input and weights of 1: every token times its choices."""
    ids = draw_ids(random, kind, tokens, k)
    x = random.integers(-2000, 2000, (tokens, 5)).astype(np.float32)  # Sums are exact.
    y, _, _ = run(compiled(IDENTITY, "layer"), ids, np.ones(ids.shape, np.float32), x,
                  np.zeros((EXPERTS, 5, 5), np.float32))
    multiplicity = ((ids >= 0) & (ids < EXPERTS)).sum(1, keepdims=True)
    assert np.array_equal(y, multiplicity * x)


@every_routing
def test_layer_is_the_reference(compiled, random, kind, tokens, k):
    ids = draw_ids(random, kind, tokens, k)
    weights = random.normal(size=ids.shape).astype(np.float32)
    x, w = draw_layer(random, tokens, 6, 9)
    y, _, offsets = run(compiled(matmul_text(6, 9), "layer"), ids, weights, x, w)
    expected, slots, (rows,) = reference.dispatch(ids, EXPERTS, [np.float64(x)])
    assert np.array_equal(offsets, expected)
    (done,) = reference.expert(expected, [rows], [w], [np.zeros((len(rows), 9))],
                               lambda _, xe, we: [np.tanh(xe @ np.float64(we).T)])
    # Sums of 6 products in f32, then tanh: far below 1e-4 of values below 1.
    np.testing.assert_allclose(y, reference.combine(done, slots, weights), atol=1e-5 * k)


@every_routing
def test_dropped_choices_add_exactly_zero(compiled, random, kind, tokens, k):
    """Whatever their weights are; a token without any row is +0."""
    artifact = compiled(matmul_text(6, 9), "layer")
    ids = draw_ids(random, kind, tokens, k)
    nowhere = (ids < 0) | (ids >= EXPERTS)
    weights = random.normal(size=ids.shape).astype(np.float32)
    x, w = draw_layer(random, tokens, 6, 9)
    y, _, _ = run(artifact, ids, np.where(nowhere, np.float32(0), weights), x, w)
    for odd in np.float32([np.nan, np.inf, -1e38]):
        again, _, _ = run(artifact, ids, np.where(nowhere, odd, weights), x, w)
        assert again.tobytes() == y.tobytes()
    assert not y[nowhere.all(1)].tobytes().strip(b"\0")


@every_routing
def test_experts_permute(compiled, random, kind, tokens, k):
    """Under other numbers the same experts give the same rows, bit for bit."""
    artifact = compiled(matmul_text(6, 9), "layer")
    ids = draw_ids(random, kind, tokens, k)
    weights = np.ones(ids.shape, np.float32)
    x, w = draw_layer(random, tokens, 6, 9)
    number = random.permutation(EXPERTS).astype(np.int32)  # of every expert, now
    somewhere = (ids >= 0) & (ids < EXPERTS)
    ids2, w2 = np.where(somewhere, number[ids % EXPERTS], ids), np.empty_like(w)
    w2[number] = w
    y, rows, offsets = run(artifact, ids, weights, x, w)
    y2, rows2, offsets2 = run(artifact, ids2, weights, x, w2)
    for e, e2 in enumerate(number):
        assert (rows[offsets[e]:offsets[e + 1]].tobytes()
                == rows2[offsets2[e2]:offsets2[e2 + 1]].tobytes())
    # Only the order of the sum over a token's choices changes.
    np.testing.assert_allclose(y2, y, atol=k * 2.0 ** -22 * k)


@every_routing
def test_tokens_do_not_notice_each_other(compiled, random, kind, tokens, k):
    """A token's result has the same bits however the tokens are split into calls."""
    artifact = compiled(matmul_text(6, 9), "layer")
    ids = draw_ids(random, kind, tokens, k)
    weights = random.normal(size=ids.shape).astype(np.float32)
    x, w = draw_layer(random, tokens, 6, 9)
    whole, _, _ = run(artifact, ids, weights, x, w)
    cuts = [0, *sorted(random.integers(0, tokens + 1, 3)), tokens]
    parts = [run(artifact, ids[a:b], weights[a:b], x[a:b], w)[0] for a, b in zip(cuts, cuts[1:])]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


# --- indices beyond 2³¹, without the memory -------------------------------------------------------

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # In the module from Python 3.13 on.

def map_zeros(*shape: int) -> Array:
    """f32 zeros that take memory only where they are touched."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), np.float32).reshape(shape)


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def test_weights_beyond_two_to_the_31_elements(compiled, random):
    """E·N·K > 2³¹; rows of the first experts, of one just beyond, and of the last."""
    width, height, experts = 256, 256, 40_000
    assert experts * width * height > 2 ** 31
    w = map_zeros(experts, height, width)
    chosen = [0, 2 ** 31 // (width * height), experts - 1]
    x = random.normal(size=(len(chosen), width)).astype(np.float32)
    for e in chosen:
        w[e] = random.normal(size=(height, width)) / 16
    before = resident_bytes()
    ids = np.array(chosen, np.int32)[:, None]
    y, _, offsets = run(compiled(matmul_text(width, height), "layer"), ids,
                        np.ones(ids.shape, np.float32), x, w)
    assert resident_bytes() - before < 64 << 20
    assert offsets[[0, 1, -2, -1]].tolist() == [0, 1, 2, 3]
    expected = [np.tanh(np.float64(w[e]) @ row) for e, row in zip(chosen, np.float64(x))]
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_tokens_beyond_two_to_the_31_elements(compiled):
    """T·H > 2³¹; all but three tokens go nowhere, so all but three rows stay unread."""
    width, tokens = 4096, 600_000
    assert tokens * width > 2 ** 31
    text = sort_text("").replace("tensor<?x3xf32>", f"tensor<?x{width}xf32>")
    x, rows = map_zeros(tokens, width), map_zeros(tokens, width)
    ids = np.full((tokens, 1), -1, np.int32)
    chosen = [0, 2 ** 31 // width, tokens - 1]
    for e, t in zip((6, 0, 3), chosen):
        ids[t], x[t] = e, np.arange(width) + t
    offsets, slots = np.zeros(EXPERTS + 1, np.int32), np.zeros_like(ids)
    before = resident_bytes()
    call(compiled(text, "sort"), ids, x, np.zeros(ids.shape, np.float32), np.zeros(2, np.int64),
         offsets, slots, rows, np.zeros(tokens, np.float32))
    assert resident_bytes() - before < 64 << 20
    assert offsets.tolist() == [0, 1, 1, 1, 2, 2, 2, 3]
    assert slots[chosen].ravel().tolist() == [2, 0, 1]
    for t in chosen:
        assert np.array_equal(rows[slots[t, 0]], x[t])


def test_too_many_choices_are_refused(compiled):
    """T·k = 2³¹ is one too many; nothing is read, so no memory is needed to try."""
    ids = View(4096, (2 ** 30, 2), "i32")
    x = View(4096, (2 ** 30, 3), "f32")
    w = View(4096, (2 ** 30, 2), "f32")
    outputs = (View(4096, (EXPERTS + 1,), "i32"), ids, View(4096, (2 ** 31, 3), "f32"),
               View(4096, (2 ** 31,), "f32"))
    with pytest.raises(ValueError, match="tokens times k"):
        compiled(sort_text(""), "sort")(ids, x, w, View(4096, (2,), "i64"), *outputs)
