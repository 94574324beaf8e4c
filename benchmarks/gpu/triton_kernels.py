"""A fused MoE in Triton, the kernels: choose, count, place, gate and up with SwiGLU, down, add.

The shape of what serving systems run: rows are gathered in the first product's loop, SwiGLU is its
epilogue, the second product multiplies with the weight of the choice and stores rows at their
choices, and a last kernel adds the k rows of each token.
"""

import triton
import triton.language as tl


@triton.jit
def choose(logits, scales, ids, num_experts, E: tl.constexpr, K: tl.constexpr, KP: tl.constexpr,
           RENORMALIZE: tl.constexpr):
    """A token a program: softmax of its logits, then the k largest, one after another."""
    token = tl.program_id(0)
    expert = tl.arange(0, E)
    slot = tl.arange(0, KP)
    inside = expert < num_experts
    value = tl.load(logits + token * num_experts + expert, mask=inside,
                    other=-float("inf")).to(tl.float32)
    largest = tl.max(value, 0)
    total = tl.sum(tl.exp(value - largest), 0)
    chosen_ids = tl.zeros([KP], tl.int32)
    chosen = tl.zeros([KP], tl.float32)
    for i in tl.static_range(K):
        best, at = tl.max(value, 0, return_indices=True)
        chosen = tl.where(slot == i, tl.exp(best - largest) / total, chosen)
        chosen_ids = tl.where(slot == i, at.to(tl.int32), chosen_ids)
        value = tl.where(expert == at, -float("inf"), value)
    if RENORMALIZE:
        chosen = chosen / tl.sum(chosen, 0)
    tl.store(scales + token * K + slot, chosen, mask=slot < K)
    tl.store(ids + token * K + slot, chosen_ids, mask=slot < K)


@triton.jit(do_not_specialize=["num_choices"])
def count(ids, counts, num_choices, E: tl.constexpr, BLOCK: tl.constexpr):
    """Choices of each expert; `counts` begins as zeros."""
    choice = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = choice < num_choices
    tl.atomic_add(counts + tl.load(ids + choice, mask=inside, other=0), 1, mask=inside)


@triton.jit(do_not_specialize=["num_choices"])
def place(ids, counts, cursors, order, num_choices, num_experts, E: tl.constexpr,
          BLOCK: tl.constexpr):
    """The rows of each expert, in any order; `cursors` begins as zeros."""
    choice = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = choice < num_choices
    every = tl.arange(0, E)
    sizes = tl.load(counts + every, mask=every < num_experts, other=0)
    starts = tl.cumsum(sizes, 0) - sizes
    expert = tl.load(ids + choice, mask=inside, other=0)
    # The start of each choice's expert, without a gather in registers.
    start = tl.sum(tl.where(every[None, :] == expert[:, None], starts[None, :], 0), 1)
    rank = tl.atomic_add(cursors + expert, 1, mask=inside)
    tl.store(order + start + rank, choice, mask=inside)


@triton.jit
def _find_tile(counts, tile, num_experts, E: tl.constexpr, BM: tl.constexpr):
    """The expert of a row tile, its first row in the order, and how many rows it has; -1: none."""
    every = tl.arange(0, E)
    sizes = tl.load(counts + every, mask=every < num_experts, other=0)
    tiles = (sizes + BM - 1) // BM
    ends = tl.cumsum(tiles, 0)
    expert = tl.sum((ends <= tile).to(tl.int32), 0)
    is_mine = every == expert
    first_tile = tl.sum(tl.where(is_mine, ends - tiles, 0), 0)
    start = tl.sum(tl.where(every < expert, sizes, 0), 0)
    size = tl.sum(tl.where(is_mine, sizes, 0), 0)
    skipped = (tile - first_tile) * BM
    return tl.where(expert < num_experts, expert, -1), start + skipped, size - skipped


@triton.jit
def _swizzle(program, row_tiles, column_tiles, GROUP: tl.constexpr):
    """Neighbouring programs share columns of weights: GROUP row tiles, then the next columns."""
    group = program // (GROUP * column_tiles)
    height = tl.minimum(row_tiles - group * GROUP, GROUP)
    within = program % (GROUP * column_tiles)
    return group * GROUP + within % height, within // height


@triton.jit(do_not_specialize=["row_tiles"])
def gate_up(x, weights, inner, order, counts, num_experts, row_tiles, H: tl.constexpr,
            I: tl.constexpr, K: tl.constexpr, E: tl.constexpr, BM: tl.constexpr,
            BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr):
    """inner[row] = silu(x · gateᵀ) * (x · upᵀ) of the row's token; weights are E×2I×H."""
    tile, column_tile = _swizzle(tl.program_id(0), row_tiles, tl.cdiv(I, BN), GROUP)
    expert, first_row, size = _find_tile(counts, tile, num_experts, E, BM)
    if expert >= 0:
        row = tl.arange(0, BM)
        n = column_tile * BN + tl.arange(0, BN)
        k = tl.arange(0, BK)
        token = tl.load(order + first_row + row, mask=row < size, other=0) // K
        left = x + token[:, None].to(tl.int64) * H + k[None, :]
        gate = weights + expert.to(tl.int64) * 2 * I * H + n[None, :] * H + k[:, None]
        up = gate + I * H
        gate_sum = tl.zeros([BM, BN], tl.float32)
        up_sum = tl.zeros([BM, BN], tl.float32)
        for at in range(0, H, BK):
            a = tl.load(left + at, mask=(row < size)[:, None] & (k < H - at)[None, :], other=0.0)
            inside = (k < H - at)[:, None] & (n < I)[None, :]
            g = tl.load(gate + at, mask=inside, other=0.0)
            u = tl.load(up + at, mask=inside, other=0.0)
            gate_sum = tl.dot(a, g, gate_sum, input_precision=PRECISION)
            up_sum = tl.dot(a, u, up_sum, input_precision=PRECISION)
        result = gate_sum / (1 + tl.exp(-gate_sum)) * up_sum
        tl.store(inner + (first_row + row)[:, None].to(tl.int64) * I + n[None, :],
                 result.to(inner.dtype.element_ty), mask=(row < size)[:, None] & (n < I)[None, :])


@triton.jit(do_not_specialize=["row_tiles"])
def down(inner, weights, rows, order, scales, counts, num_experts, row_tiles, H: tl.constexpr,
         I: tl.constexpr, E: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
         GROUP: tl.constexpr, PRECISION: tl.constexpr):
    """rows[choice] = scale · (inner · downᵀ); weights are E×H×I."""
    tile, column_tile = _swizzle(tl.program_id(0), row_tiles, tl.cdiv(H, BN), GROUP)
    expert, first_row, size = _find_tile(counts, tile, num_experts, E, BM)
    if expert >= 0:
        row = tl.arange(0, BM)
        n = column_tile * BN + tl.arange(0, BN)
        k = tl.arange(0, BK)
        left = inner + (first_row + row)[:, None].to(tl.int64) * I + k[None, :]
        right = weights + expert.to(tl.int64) * H * I + n[None, :] * I + k[:, None]
        total = tl.zeros([BM, BN], tl.float32)
        for at in range(0, I, BK):
            a = tl.load(left + at, mask=(row < size)[:, None] & (k < I - at)[None, :], other=0.0)
            b = tl.load(right + at, mask=(k < I - at)[:, None] & (n < H)[None, :], other=0.0)
            total = tl.dot(a, b, total, input_precision=PRECISION)
        choice = tl.load(order + first_row + row, mask=row < size, other=0)
        scale = tl.load(scales + choice, mask=row < size, other=0.0)
        tl.store(rows + choice[:, None].to(tl.int64) * H + n[None, :],
                 (total * scale[:, None]).to(rows.dtype.element_ty),
                 mask=(row < size)[:, None] & (n < H)[None, :])


@triton.jit
def add(rows, y, H: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    """y[token] = the sum of the token's k rows, in f32."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for slot in tl.static_range(K):
        total += tl.load(rows + (token * K + slot) * H + column, mask=column < H,
                         other=0.0).to(tl.float32)
    tl.store(y + token * H + column, total.to(y.dtype.element_ty), mask=column < H)
