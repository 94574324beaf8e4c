"""moe.grouped_matmul, compiled, against the float64 reference.

Operands are small integers, so that every sum is exact in f32 and results have to be equal, in any
order of summation; `test_swiglu` is about numbers that are not. A `Case` is written once: the text
of the op and the reference come from the same index expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from execution import UNIT, Array, call, make_compiled, make_random  # noqa: F401
from moe import reference
from moe.reference import Indexed, Term
from moe.tensors import bf16_bits, from_bf16_bits, round_bf16

EXPERTS, K, N, TOP_K = 5, 7, 9, 2  # K and N odd: no tile divides them.
NUMPY = {"f32": np.float32, "f16": np.float16, "bf16": np.float32, "i8": np.int8, "i32": np.int32}


@dataclass(frozen=True)
class Operand:
    """`%name[index]`, of sizes that are numbers, or "t" or "m" where they are not known."""

    name: str
    index: str
    sizes: tuple[int | str, ...]
    kind: str = "f32"

    @property
    def text(self) -> str:
        return f"%{self.name}[{self.index}]"

    @property
    def type(self) -> str:
        sizes = "".join("?x" if isinstance(size, str) else f"{size}x" for size in self.sizes)
        return f"tensor<{sizes}{self.kind}>"

    def indexed(self, arrays: dict[str, Array]) -> Indexed:
        code = self.index.replace("floordiv", "//").replace("mod", "%")
        return Indexed(arrays[self.name], eval(f"lambda e, m, t, j, n, k: ({code}{',' if code else ''})"))


@dataclass(frozen=True)
class Summand:
    """lhs * weight; with the text of a region for either side, and what the region computes."""

    lhs: Operand
    stored: tuple[Operand, ...]
    region: str = ""
    decode: Callable[..., float] | None = None
    extras: tuple[Operand, ...] = ()
    lhs_region: str = ""
    prologue: Callable[..., float] | None = None

    @property
    def factors(self) -> tuple[Operand, ...]:
        return (self.lhs, *self.extras, *self.stored)

    @property
    def text(self) -> str:
        rows = ", ".join(operand.text for operand in (self.lhs, *self.extras))
        stored = ", ".join(operand.text for operand in self.stored)
        return ((f"prologue({rows})" if self.lhs_region else rows) + " * "
                + (f"decode({stored})" if self.region else stored))

    @property
    def regions(self) -> str:
        named = (("prologue", self.lhs_region), ("decode", self.region))
        return "".join(f" {name} {{\n{text}}}" for name, text in named if text)


@dataclass(frozen=True)
class Case:
    """One op: rows of `kinds` from `epilogue`, which has a text and a meaning."""

    products: Sequence[Sequence[Summand]]
    arguments: str  # of the epilogue, after the products %p0, %p1 …
    body: str
    epilogue: Callable[..., Sequence[float]]
    kinds: tuple[str, ...] = ("f32",)
    extras: tuple[Operand, ...] = ()
    source: bool = True
    combine: bool = False
    base: bool = False

    @property
    def operands(self) -> list[Operand]:
        terms = [term for product in self.products for term in product]
        listed = [o for term in terms for o in term.factors] + list(self.extras)
        return list({operand.name: operand for operand in listed}.values())

    def text(self) -> str:
        """The function `op`: offsets, source, operands, (slots, weights, base,) inits → results."""
        inits = [f"tensor<?x{N}x{kind}>" for kind in self.kinds]
        arguments = [("offsets", f"tensor<{EXPERTS + 1}xi32>"), ("source", "tensor<?xi32>"),
                     *((o.name, o.type) for o in self.operands),
                     *((f"init{i}", type_) for i, type_ in enumerate(inits))]
        if self.combine:
            arguments += [("slots", f"tensor<?x{TOP_K}xi32>"),
                          ("weights", f"tensor<?x{TOP_K}xf32>"), ("base", f"tensor<?x{N}xf32>")]
        terms = [term for product in self.products for term in product]
        op = f"offsets(%offsets : tensor<{EXPERTS + 1}xi32>)"
        if self.source:
            op += f" source(%source : tensor<?xi32>) top_k({TOP_K})"
        op += "\n    products(" + ", ".join(
            " + ".join(term.text for term in product) for product in self.products)
        op += " : " + ", ".join(o.type for term in terms for o in term.factors) + ")"
        if self.extras:
            op += (f"\n    extras({', '.join(o.text for o in self.extras)} : "
                   f"{', '.join(o.type for o in self.extras)})")
        if self.combine:
            op += (f"\n    combine(%slots : tensor<?x{TOP_K}xi32>, %weights : "
                   f"tensor<?x{TOP_K}xf32>)")
        if self.base:
            op += f" base(%base : tensor<?x{N}xf32>)"
        names = ", ".join(f"%init{i}" for i in range(len(inits)))
        blocks = ", ".join([f"%p{i}: f32" for i in range(len(self.products))]
                           + ([self.arguments] if self.arguments else []))
        regions = "".join(term.regions for term in terms)
        count = f":{len(inits)}" if len(inits) > 1 else ""
        results = ", ".join(f"%r#{i}" for i in range(len(inits))) if count else "%r"
        signature = ", ".join(f"%{name}: {type_}" for name, type_ in arguments)
        return (f"func.func @op({signature})\n    -> ({', '.join(inits)}) {{\n"
                f"  %r{count} = moe.grouped_matmul {op}\n    outs({names} : {', '.join(inits)}) {{\n"
                f"  ^bb0({blocks}):\n{self.body}  }}{regions}\n"
                f"  return {results} : {', '.join(inits)}\n}}\n")


# --- the cases ------------------------------------------------------------------------------------

X = Operand("x", "t, k", ("t", K))
ROWS = Operand("rows", "m, k", ("m", K))
W = Operand("w", "e, n, k", (EXPERTS, N, K))


def first(*values: float) -> list[float]:
    return [values[0]]


YIELD = "    moe.yield %p0 : f32\n"


def yield_all(count: int) -> str:
    return (f"    moe.yield {', '.join(f'%p{i}' for i in range(count))} : "
            f"{', '.join(['f32'] * count)}\n")


STACKED = Operand("stacked", "e, n + 9, k", (EXPERTS, 2 * N, K), "bf16")
XH = Operand("xh", "t, k", ("t", K), "bf16")
LAYOUTS = [
    Operand("nk", "e, n, k", (EXPERTS, N, K), "bf16"),
    Operand("kn", "e, k, n", (EXPERTS, K, N), "bf16"),
    STACKED,
    Operand("stacked", "e, 2 * n + 1, k", STACKED.sizes, "bf16"),
    Operand("packed", "e, n floordiv 4, k floordiv 2, n mod 4, k mod 2", (EXPERTS, 3, 4, 4, 2),
            "f16"),
    Operand("shared", "n, k", (N, K), "f32"),
    Operand("turned", "4 - e, 8 - n, k", (EXPERTS, N, K), "f32"),
]
CODES = Operand("codes", "e, n, k floordiv 2", (EXPERTS, N, (K + 1) // 2), "i8")
SCALES = Operand("scales", "e, n floordiv 3, k floordiv 4", (EXPERTS, 3, 2), "bf16")
# The low half of a byte is the even k; a number is code · scale + n.
INT4 = """\
  ^bb0(%n: index, %k: index, %code: i8, %scale: bf16):
    %one = arith.constant 1 : index
    %two = arith.constant 2 : index
    %zero = arith.constant 0 : index
    %four = arith.constant 4 : i8
    %odd = arith.remui %k, %two : index
    %is_low = arith.cmpi eq, %odd, %zero : index
    %shifted = arith.shli %code, %four : i8
    %place = arith.select %is_low, %shifted, %code : i8
    %nibble = arith.shrsi %place, %four : i8
    %float = arith.sitofp %nibble : i8 to f32
    %wide = arith.extf %scale : bf16 to f32
    %scaled = arith.mulf %float, %wide : f32
    %column = arith.index_cast %n : index to i32
    %number = arith.sitofp %column : i32 to f32
    %value = arith.addf %scaled, %number : f32
    moe.yield %value : f32
"""
INT8 = """\
  ^bb0(%n: index, %k: index, %code: i8):
    %value = arith.sitofp %code : i8 to bf16
    moe.yield %value : bf16
"""


def int4(n: int, k: int, code: int, scale: float) -> float:
    nibble = int(code) >> 4 if k % 2 else ((int(code) & 15) ^ 8) - 8
    return nibble * float(scale) + n


# Rows that are computed first: tokens times the weight of the choice, rounded in bf16 (which is
# exact here), and codes with a scale for each row, an offset for each place of the sum, by expert.
WEIGHTED = """\
  ^bb0(%row: bf16, %weight: bf16):
    %value = arith.mulf %row, %weight : bf16
    moe.yield %value : bf16
"""
ROW_CODES = """\
  ^bb0(%code: i8, %scale: f32, %offset: f16):
    %float = arith.sitofp %code : i8 to f32
    %scaled = arith.mulf %float, %scale : f32
    %wide = arith.extf %offset : f16 to f32
    %value = arith.addf %scaled, %wide : f32
    moe.yield %value : f32
"""


# Every index that an extra may have, each with its weight in the sum.
EXTRAS = (Operand("of_en", "e, n", (EXPERTS, N)), Operand("of_tj", "t, j", ("t", TOP_K)),
          Operand("of_m", "m", ("m",)), Operand("of_tn", "t, n", ("t", N), "bf16"),
          Operand("of_mn", "m, n", ("m", N), "f16"), Operand("of_none", "", (), "f32"),
          Operand("of_n", "n floordiv 2", (N // 2 + 1,), "i32"))
ADD_EXTRAS = """\
    %wide = arith.extf %tn : bf16 to f32
    %high = arith.extf %mn : f16 to f32
    %number = arith.sitofp %half : i32 to f32
    %a = arith.addf %p0, %en : f32
    %b = arith.mulf %a, %tj : f32
    %c = arith.addf %b, %m : f32
    %d = arith.addf %c, %wide : f32
    %e = arith.subf %d, %high : f32
    %f = arith.addf %e, %none : f32
    %g = arith.addf %f, %number : f32
    moe.yield %g : f32
"""
KINDS = """\
    %low = arith.truncf %p0 : f32 to bf16
    %integer = arith.fptosi %p1 : f32 to i32
    moe.yield %low, %p1, %integer : bf16, f32, i32
"""
TRUNCATE = """\
    %low = arith.truncf %p0 : f32 to bf16
    moe.yield %low : bf16
"""


def index_of(name: str, sizes: tuple, kind: str = "f32", index: str = "e, n, k") -> Operand:
    return Operand(name, index, sizes, kind)


CASES = {
    "rows": Case([[Summand(ROWS, (W,))]], "", YIELD, first, source=False),
    "layouts": Case([[Summand(XH, (o,))] for o in LAYOUTS], "", yield_all(len(LAYOUTS)),
                    lambda *p: p, ("f32",) * len(LAYOUTS)),
    "sums": Case([[Summand(X, (W,)), Summand(Operand("low", "m, k", ("m", 3), "f16"),
                                             (index_of("b", (EXPERTS, N, 3), "f16"),))],
                  [Summand(ROWS, (W,))]], "", yield_all(2), lambda p, q: (p, q), ("f32", "f32")),
    "decode": Case([[Summand(X, (CODES, SCALES), INT4, int4), Summand(X, (W,)),
                     Summand(ROWS, (index_of("bytes", (EXPERTS, N, K), "i8"),), INT8,
                             lambda n, k, code: code)]], "", YIELD, first),
    "prologue": Case(
        [[Summand(XH, (STACKED,), extras=(Operand("of_tj", "t, j", ("t", TOP_K), "bf16"),),
                  lhs_region=WEIGHTED, prologue=lambda row, weight: float(row) * float(weight))],
         [Summand(X, (W,)), Summand(
             Operand("row_codes", "m, k", ("m", K), "i8"), (CODES, SCALES), INT4, int4,
             (Operand("of_m", "m", ("m",)), Operand("of_ek", "e, 6 - k", (EXPERTS, K), "f16")),
             ROW_CODES, lambda code, scale, offset: int(code) * float(scale) + float(offset))]],
        "", yield_all(2), lambda p, q: (p, q), ("f32", "f32")),
    "extras": Case([[Summand(X, (W,))]], "%en: f32, %tj: f32, %m: f32, %tn: bf16, %mn: f16, "
                   "%none: f32, %half: i32", ADD_EXTRAS,
                   lambda p, en, tj, m, tn, mn, none, half:
                   [(p + en) * tj + m + tn - mn + none + half], extras=EXTRAS),
    "kinds": Case([[Summand(X, (W,))], [Summand(ROWS, (W,))]], "", KINDS, lambda p, q: (p, q, q),
                  ("bf16", "f32", "i32")),
    "no_sum": Case([[Summand(Operand("none", "t, k", ("t", 0)),
                             (index_of("nothing", (EXPERTS, N, 0)),))]], "", YIELD, first),
    "combine": Case([[Summand(ROWS, (W,))]], "", TRUNCATE, first, source=False, combine=True),
    "combine_base": Case([[Summand(X, (W,))]], "", YIELD, first, ("bf16",), combine=True,
                         base=True),
}
# A row of the last two is rounded before it is combined, or not at all.
ROUNDED_ROWS = {"combine": True, "combine_base": False}


# --- routing --------------------------------------------------------------------------------------

ROUTINGS = ("none", "one token", "all to one expert", "empty experts", "capacity", "nowhere")


def make_ids(random: np.random.Generator, routing: str) -> tuple[Array, int | None]:
    tokens = {"none": 0, "one token": 1}.get(routing, 6)
    ids = np.argsort(random.random((tokens, EXPERTS)), 1)[:, :TOP_K].astype(np.int32)
    if routing == "all to one expert":
        ids[:, 0], ids[:, 1] = 3, 9  # The other choice is nowhere.
    elif routing == "empty experts":
        ids = ids % 2 * 4
    elif routing == "nowhere":
        ids[:] = -1
    return ids, 1 if routing == "capacity" else None


def make_plan(random: np.random.Generator, routing: str) -> tuple[Array, Array, Array]:
    """Offsets, slots and source, with a row that nobody owns before the first and two after."""
    ids, capacity = make_ids(random, routing)
    offsets, slots, _ = reference.dispatch(ids, EXPERTS, capacity=capacity)
    source = np.full(ids.size + 3, -1, np.int32)
    placed = slots >= 0
    slots = np.where(placed, slots + 1, -1).astype(np.int32)
    source[slots[placed]] = np.flatnonzero(placed)
    return offsets + 1, slots, source


def make_arrays(random: np.random.Generator, case: Case, tokens: int, rows: int) -> dict[str, Array]:
    """Small integers; a code is any byte."""
    arrays = {}
    for operand in case.operands:
        shape = [{"t": tokens, "m": rows}.get(size, size) for size in operand.sizes]
        values = (random.integers(-128, 128, shape) if operand.kind == "i8"
                  else random.integers(-4, 5, shape))
        arrays[operand.name] = np.asarray(values).astype(NUMPY[operand.kind])
    return arrays


def stored(array: Array, kind: str) -> Array:
    return bf16_bits(array) if kind == "bf16" else array


def expected_rows(case: Case, plan: tuple[Array, Array, Array], arrays: dict[str, Array],
                  inits: Sequence[Array]) -> list[Array]:
    products = [[Term(s.lhs.indexed(arrays), [o.indexed(arrays) for o in s.stored], s.decode,
                      [o.indexed(arrays) for o in s.extras], s.prologue)
                 for s in product] for product in case.products]
    return reference.grouped_matmul(
        plan[0], products, case.epilogue, inits, extras=[o.indexed(arrays) for o in case.extras],
        source=plan[2] if case.source else None, top_k=TOP_K)


@pytest.mark.parametrize("name", CASES)
def test_case(name, compiled, random):
    """Equal to float64, for every routing."""
    case = CASES[name]
    artifact = compiled(case.text(), "op", "-O0")
    for routing in ROUTINGS:
        plan = make_plan(random, routing)
        tokens, rows = len(plan[1]), len(plan[2])
        arrays = make_arrays(random, case, tokens, rows)
        inputs = [plan[0], plan[2], *(stored(arrays[o.name], o.kind) for o in case.operands)]
        height = tokens if case.combine else rows
        inits = [np.full((height, N), 5, NUMPY[kind]) for kind in case.kinds]
        combined = []
        if case.combine:
            weights = random.choice([-1, 0.5, 2], plan[1].shape).astype(np.float32)
            combined = [plan[1], weights, random.integers(-9, 9, (tokens, N)).astype(np.float32)]
        results = [stored(np.full_like(init, 77), kind) for init, kind in zip(inits, case.kinds)]
        call(artifact, *inputs, *(stored(i, k) for i, k in zip(inits, case.kinds)), *combined,
             *results)
        if case.combine:
            wide = expected_rows(case, plan, arrays, [np.zeros((rows, N))])[0]
            wide = round_bf16(wide) if ROUNDED_ROWS[name] else wide
            expected = [reference.combine(wide, plan[1], combined[1],
                                          combined[2] if case.base else None)]
        else:
            expected = expected_rows(case, plan, arrays, [np.float64(init) for init in inits])
        for i, (result, kind) in enumerate(zip(results, case.kinds, strict=True)):
            actual = from_bf16_bits(result) if kind == "bf16" else result
            wanted = round_bf16(expected[i]) if kind == "bf16" else expected[i]
            np.testing.assert_array_equal(actual, wanted, f"{routing}, destination {i}")


SWIGLU = """
func.func @op(%offsets: tensor<6xi32>, %source: tensor<?xi32>, %x: tensor<?x7xf32>,
              %w: tensor<5x18x7xf32>, %init: tensor<?x9xf32>) -> tensor<?x9xf32> {
  %r = moe.grouped_matmul offsets(%offsets : tensor<6xi32>) source(%source : tensor<?xi32>) top_k(2)
      products(%x[t, k] * %w[e, 2 * n, k], %x[t, k] * %w[e, 2 * n + 1, k] : tensor<?x7xf32>,
               tensor<5x18x7xf32>, tensor<?x7xf32>, tensor<5x18x7xf32>)
      outs(%init : tensor<?x9xf32>) {
  ^bb0(%g: f32, %u: f32):
    %one = arith.constant 1.0 : f32
    %n = arith.negf %g : f32
    %e = math.exp %n : f32
    %d = arith.addf %e, %one : f32
    %s = arith.divf %g, %d : f32
    %h = arith.mulf %s, %u : f32
    moe.yield %h : f32
  }
  return %r : tensor<?x9xf32>
}
"""


@pytest.mark.parametrize("routing", ROUTINGS)
def test_swiglu(routing, compiled, random):
    """Any numbers: each sum is off by K roundings at most, and silu' is below 1.1."""
    artifact = compiled(SWIGLU, "op")
    offsets, slots, source = make_plan(random, routing)
    x = random.normal(size=(len(slots), K)).astype(np.float32)
    w = random.normal(size=(EXPERTS, 2 * N, K)).astype(np.float32)
    init = np.full((len(source), N), 5, np.float32)
    result = np.full_like(init, 77)
    call(artifact, offsets, source, x, w, init, result)

    def rows(x: Array, w: Array, epilogue: Callable[..., Sequence[float]]) -> Array:
        lhs = Indexed(x, lambda e, m, t, j, n, k: (t, k))
        halves = [Indexed(w, lambda e, m, t, j, n, k, half=half: (e, 2 * n + half, k))
                  for half in (0, 1)]
        return reference.grouped_matmul(offsets, [[Term(lhs, [half])] for half in halves], epilogue,
                                        [np.float64(init)], source=source, top_k=TOP_K)[0]
    expected = rows(x, w, lambda g, u: [g / (1 + np.exp(-g)) * u])
    most = rows(abs(x), abs(w), lambda g, u: [g * u])  # |silu(g)| ≤ |g|
    owned = slice(offsets[0], offsets[-1])
    error = np.abs(result - expected)
    assert (error[owned] <= (2.1 * (K + 1) + 16) * UNIT * most[owned]).all()
    np.testing.assert_array_equal(np.delete(error, np.r_[owned], 0), 0)
