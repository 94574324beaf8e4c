"""Runs the kernels of moe-lower-to-gpu under emulation and compares them with float64 sums.

usage: check_kernels.py MOE_OPT [NAME…]      (all variants, or those whose name starts so)
       check_kernels.py MOE_OPT --mutants    damaged kernels, each of which must be found out

The very IR that goes to NVPTX runs on the CPU, threads in random order, shared memory born as NaN;
races, copies that are read too early and accesses out of bounds are errors. Each variant runs with
several distributions of rows over the experts. Prints a line a variant.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))

from moe import emulation  # noqa: E402

# What each element type is in numpy, and half the distance of neighbours at 1.
STORAGE = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
ROUNDING = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


def encode(values: np.ndarray, kind: str) -> np.ndarray:
    """f32 values as stored; those of bf16 must be exact."""
    if kind == "bf16":
        return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(values, STORAGE[kind])


def decode(stored: np.ndarray, kind: str) -> np.ndarray:
    """Stored values in float64."""
    if kind == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored.astype(np.float64)


@dataclasses.dataclass
class Variant:
    """A grouped matmul, its tile, and how many rows each expert has in each run."""

    name: str
    kind: str = "bf16"
    out: str = "bf16"
    n: int = 64
    k: int = 128
    experts: int = 4
    config: tuple[int, int, int, int, int] = (64, 64, 2, 2, 3)  # rows, columns, warps, stages
    gathered: bool = False
    transposed: bool = False
    gated: bool = False
    alternating: tuple[int, ...] = ()  # which of two neighbouring columns gate has, and up
    extras: bool = False
    permuted: bool = False
    # What a row is multiplied by before: the weight of its choice, or scales of its expert, which
    # are f32 as the rows then are.
    prologue: str = ""
    dynamic_experts: bool = False
    grid: int = 0  # blocks; 0 for as many as the host would launch
    rows: tuple[tuple[int, ...], ...] = ((5, 0, 70, 1), (0, 0, 0, 0), (0, 90, 0, 0), (0, 0, 1, 0))
    schedules: int = 25  # runs, each with its own order of threads and numbers

    def columns(self) -> int:
        """Columns of the weights: gate and up lie side by side, or alternate."""
        return self.n * (2 if self.gated else 1)

    def stored(self, w: np.ndarray) -> np.ndarray:
        """Weights of gate, then those of up, as the op has them."""
        if self.alternating:
            places = np.empty(2 * self.n, np.int64)
            for product, first in enumerate(self.alternating):
                places[first::2] = np.arange(self.n) + product * self.n
            w = w[:, places]
        return w.swapaxes(1, 2) if self.transposed else w

    def attribute(self) -> str:
        """How the op runs."""
        rows, columns, warp_rows, warp_columns, stages = self.config
        return (f"#moe.gpu_matmul<tile_rows = {rows}, tile_columns = {columns}, "
                f"tile_sum = {32 if self.kind == 'f32' else 64}, warp_rows = {warp_rows}, "
                f"warp_columns = {warp_columns}, stages = {stages}"
                f"{', permuted = true' * self.permuted}>")

    def rows_kind(self) -> str:
        """The type of the rows, before a prologue."""
        return "f32" if self.prologue == "scales" else self.kind

    def factors(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Rows or weights, in f32."""
        return exact(generator, shape)

    def rounding(self) -> float:
        """The error of a sum of products, relative to the sum of their magnitudes."""
        return self.k * 2.0**-24

    def launch(self, kernels: emulation.Kernels, lowered: str, arrays: dict[str, np.ndarray],
               args: list[np.ndarray | np.generic], seed: int) -> None:
        """Runs the kernel on what the op's operands are, in order."""
        tile_rows, tile_columns, warp_rows, warp_columns, stages = self.config
        kernels.launch("v_matmul", self.grid or self.bound(len(arrays["y"]), tile_rows, tile_columns),
                       32 * warp_rows * warp_columns, args, seed=seed,
                       shared=stages * (tile_rows + self.products() * tile_columns) * 128)

    def products(self) -> int:
        """Weights of a step."""
        return 2 if self.gated else 1

    def bound(self, m: int, tile_rows: int, tile_columns: int) -> int:
        """Blocks that the host would launch for m rows."""
        return max(1, min(m, m // tile_rows + self.experts) * -(-self.n // tile_columns))

    def text(self) -> str:
        """The op, bufferized and configured."""
        e = "?" if self.dynamic_experts else self.experts
        offsets = "?" if self.dynamic_experts else self.experts + 1
        shape = (self.k, self.columns()) if self.transposed else (self.columns(), self.k)
        rows = f"memref<?x{self.k}x{self.rows_kind()}>"
        weight = f"memref<{e}x{shape[0]}x{shape[1]}x{self.kind}>"
        dim = "t" if self.gathered else "m"
        place = (lambda n: f"e, k, {n}") if self.transposed else (lambda n: f"e, {n}, k")
        columns = ["n", f"n + {self.n}"] if self.gated else ["n"]
        if self.alternating:
            columns = [f"n * 2 + {first}" for first in self.alternating]
        lhs, lhs_types, region = f"%x[{dim}, k]", [rows], ""
        choices, scales = f"memref<?x2x{self.kind}>", f"memref<{e}x{self.k}xf32>"
        if self.prologue == "weights":
            lhs, lhs_types = f"prologue({lhs}, %choices[t, j])", [rows, choices]
            region = (f"^bb0(%v: {self.kind}, %u: {self.kind}):\n%m = arith.mulf %v, %u : {self.kind}\n"
                      f"moe.yield %m : {self.kind}")
        if self.prologue == "scales":
            lhs, lhs_types = f"prologue({lhs}, %scales[e, k])", [rows, scales]
            region = (f"^bb0(%v: f32, %u: f32):\n%m = arith.mulf %v, %u : f32\n"
                      f"%r = arith.truncf %m : f32 to {self.kind}\nmoe.yield %r : {self.kind}")
        products = [f"{lhs} * %w[{place(column)}]" for column in columns]
        regions = f" prologue {{\n{region}\n}}" * len(products) if region else ""
        types = ", ".join([*lhs_types, weight] * len(products))
        needs_source = self.gathered or self.extras or self.prologue == "weights"
        source = "source(%source : memref<?xi32>) top_k(2)" if needs_source else ""
        extras = (f"extras(%bias[e, n], %s[t, j] : memref<{e}x{self.n}xf32>, memref<?x2xf32>)"
                  if self.extras else "")
        arguments = ["%p: f32"] + ["%u: f32"] * self.gated + ["%b: f32", "%c: f32"] * self.extras
        body, value = [], "%p"
        if self.gated:  # SiLU
            body += ["%one = arith.constant 1.0 : f32", "%minus = arith.negf %p : f32",
                     "%e = math.exp %minus : f32", "%d = arith.addf %e, %one : f32",
                     "%q = arith.divf %p, %d : f32", "%g = arith.mulf %q, %u : f32"]
            value = "%g"
        if self.extras:
            body += [f"%v0 = arith.addf {value}, %b : f32", "%v1 = arith.mulf %v0, %c : f32",
                     "%v2 = arith.mulf %v1, %scale : f32"]
            value = "%v2"
        if self.out != "f32":
            body.append(f"%r = arith.truncf {value} : f32 to {self.out}")
            value = "%r"
        return f"""
func.func @v(%o: memref<{offsets}xi32>, %source: memref<?xi32>, %x: {rows}, %w: {weight},
             %bias: memref<{e}x{self.n}xf32>, %s: memref<?x2xf32>, %y: memref<?x{self.n}x{self.out}>, %scale: f32,
             %choices: {choices}, %scales: {scales}) {{
  moe.grouped_matmul offsets(%o : memref<{offsets}xi32>) {source}
      products({", ".join(products)} : {types}) {extras} outs(%y : memref<?x{self.n}x{self.out}>)
      attributes {{moe.lowering_config = {self.attribute()}}} {{
  ^bb0({", ".join(arguments)}):
    {chr(10).join(body)}
    moe.yield {value} : {self.out}
  }}{regions}
  return
}}"""


VARIANTS = [
    Variant("plain"),
    Variant("f16-f32", kind="f16", out="f32"),
    Variant("parts-of-tiles", n=72, k=200),
    Variant("odd-columns", n=33, out="f32"),
    Variant("one-step", k=8, n=16),
    Variant("transposed", transposed=True, n=72, k=72),
    Variant("transposed-f16", kind="f16", out="f16", transposed=True, gathered=True),
    Variant("gathered", gathered=True, k=192),
    Variant("gated", gated=True, gathered=True, n=48),
    Variant("gated-transposed", gated=True, gathered=True, transposed=True, n=64),
    Variant("alternating", gated=True, alternating=(0, 1), gathered=True, transposed=True, n=36, k=72,
            config=(64, 32, 2, 2, 3)),
    Variant("alternating-up-first", kind="f16", out="f16", gated=True, alternating=(1, 0),
            transposed=True, extras=True, n=128),
    Variant("alternating-few-rows", gated=True, alternating=(1, 0), gathered=True, transposed=True,
            out="f32", n=72, config=(16, 64, 1, 4, 4), rows=((1, 0, 17, 3), (0, 0, 0, 2))),
    Variant("alternating-128x64", gated=True, alternating=(0, 1), gathered=True, transposed=True,
            k=200, config=(128, 64, 2, 4, 3), rows=((150, 0, 1, 30), (0, 0, 0, 0), (0, 0, 140, 0)),
            schedules=6),
    Variant("alternating-rows", gated=True, alternating=(1, 0), n=40),
    Variant("permuted", permuted=True, gathered=True, k=1096),
    Variant("permuted-in-place", permuted=True, kind="f16", out="f32", k=72),
    Variant("prologue", permuted=True, prologue="weights", gathered=True, gated=True, k=200),
    Variant("prologue-in-place", permuted=True, prologue="weights", kind="f16", out="f16", grid=3),
    Variant("prologue-of-experts", permuted=True, prologue="scales", gathered=True, transposed=True,
            extras=True, out="f32", experts=9, dynamic_experts=True, k=136,
            rows=((0, 3, 0, 0, 70, 1, 0, 2, 0), (0,) * 9, (0,) * 8 + (90,), (1,) + (0,) * 8)),
    Variant("prologue-few-rows", permuted=True, prologue="weights", gathered=True,
            config=(16, 64, 1, 4, 4), rows=((1, 0, 17, 3), (0, 0, 0, 2))),
    Variant("extras", extras=True, gathered=True, out="f32", n=40),
    Variant("few-rows", config=(16, 64, 1, 4, 4), rows=((1, 0, 17, 3), (0, 0, 0, 2))),
    Variant("two-stages", config=(32, 32, 1, 2, 2), k=320),
    Variant("128x128", config=(128, 128, 2, 4, 4), n=136, k=320, gathered=True,
            rows=((150, 0, 1, 30),), schedules=5),
    Variant("128x64-of-two", config=(128, 64, 2, 4, 3), n=64, gated=True, rows=((129, 0, 3, 0),)),
    Variant("many-experts", experts=70, dynamic_experts=True, config=(16, 32, 1, 2, 2), n=32, k=64,
            rows=(tuple((7 * e) % 5 for e in range(70)), (0,) * 69 + (3,), (2,) + (0,) * 69)),
    Variant("few-blocks", grid=2, n=136),
    Variant("many-row-tiles", config=(16, 32, 1, 2, 2), n=64, k=64, experts=2, rows=((300, 280),),
            schedules=3),
]


def lower(moe_opt: str, text: str) -> str:
    """The kernels, and the host code that launches them."""
    command = [moe_opt, "--moe-lower-to-gpu", "--moe-lower-kernels"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: moe-opt fails: {done.stderr}\n{text}")
    return done.stdout


def exact(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values that bf16 and f16 hold: small integers times powers of two."""
    return generator.integers(-64, 65, shape).astype(np.float32) / 64


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    """float64 values that f32 holds, in `kind`, to nearest even."""
    if kind == "bf16":
        bits = values.astype(np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
        return bits.view(np.float32).astype(np.float64)
    return values.astype(STORAGE[kind]).astype(np.float64)


@dataclasses.dataclass
class Factors:
    """What prologues multiply rows by: a weight for each choice, or scales for each expert."""

    choices: np.ndarray
    scales: np.ndarray

    def apply(self, variant: Variant, rows: np.ndarray, source: np.ndarray,
              expert: int) -> np.ndarray:
        """Rows of an expert after the prologue."""
        if variant.prologue == "weights":
            return rounded(rows * self.choices[source // 2, source % 2][:, None], variant.kind)
        return rounded(rows * self.scales[expert], variant.kind) if variant.prologue else rows


def permute(variant: Variant, kernels: emulation.Kernels, offsets: np.ndarray, source: np.ndarray,
            x: np.ndarray, factors: Factors, seed: int) -> np.ndarray:
    """The kernel before: rows in the order of the experts, in memory that had NaN."""
    rows = encode(np.full((len(source), variant.k), np.nan), variant.kind)
    unwritten = rows[offsets[-1]:].copy()
    args = [offsets] + [source] * (variant.gathered or variant.prologue == "weights") + [x]
    args += [encode(factors.choices, variant.kind)] * (variant.prologue == "weights")
    args += [factors.scales] * (variant.prologue == "scales") + [rows]
    args += [np.int32(variant.experts)] * variant.dynamic_experts
    blocks = len(source) * -(-variant.k * rows.itemsize // 2048)
    kernels.launch("v_permute", variant.grid or blocks, 128, args, seed=seed)
    if rows[offsets[-1]:].tobytes() != unwritten.tobytes():
        sys.exit(f"error: {variant.name}: rows that nobody owns are permuted")
    return rows


def run(variant: Variant, kernels: emulation.Kernels, lowered: str, rows: tuple[int, ...],
        seed: int) -> float:
    """One launch; returns the worst error as a share of the bound."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int32)
    used = int(offsets[-1])
    m, tokens = used + 3, used + 2
    source = generator.integers(0, 2 * tokens, m).astype(np.int32)
    x = variant.factors(generator, (tokens if variant.gathered else m, variant.k))
    w = variant.factors(generator, (variant.experts, variant.columns(), variant.k))
    bias = exact(generator, (variant.experts, variant.n))
    weights = exact(generator, (tokens, 2))
    scale = np.float32(0.5)
    y = encode(np.full((m, variant.n), 7.0), variant.out)

    arrays = {"x": encode(x, variant.rows_kind()), "w": encode(variant.stored(w), variant.kind), "y": y}
    factors = Factors(exact(generator, (tokens, 2)), exact(generator, (variant.experts, variant.k)))
    if variant.permuted:
        arrays["x"] = permute(variant, kernels, offsets, source, arrays["x"], factors, seed)
    args = [offsets]
    if variant.gathered and not variant.permuted or variant.extras:
        args.append(source)
    args += [arrays["x"], arrays["w"]]
    args += [bias, weights] * variant.extras + [y] + [scale] * variant.extras
    args += [np.int32(variant.experts)] * variant.dynamic_experts
    variant.launch(kernels, lowered, arrays, args, seed)

    worst = 0.0
    got = decode(y, variant.out)
    if not (got[used:] == 7.0).all():
        sys.exit(f"error: {variant.name}: rows that nobody owns are overwritten")
    for e in range(variant.experts):
        owned = np.arange(offsets[e], offsets[e + 1])
        lhs = x[source[owned] // 2 if variant.gathered else owned].astype(np.float64)
        lhs = factors.apply(variant, lhs, source[owned], e)
        sums = lhs @ w[e].astype(np.float64).T
        size = np.abs(lhs) @ np.abs(w[e]).astype(np.float64).T
        errors = size * variant.rounding()
        want, error = sums[:, :variant.n], errors[:, :variant.n]
        if variant.gated:
            up, silu = sums[:, variant.n:], want / (1 + np.exp(-want))
            want = silu * up
            # exp: 2⁻²² + |x| 2⁻²⁴ relative; a few roundings; errors of the sums themselves.
            error = (np.abs(want) * (2.0**-19) + 1.1 * error * np.abs(up)
                     + errors[:, variant.n:] * (np.abs(silu) + 1.1 * error))
        if variant.extras:
            want = (want + bias[e]) * weights[source[owned] // 2, source[owned] % 2][:, None] * scale
            error = error + np.abs(want) * 2.0**-21 + 2.0**-21
        error = error + np.abs(want) * 1.01 * ROUNDING[variant.out] + 1e-30
        # Subnormals of f16 are 2⁻²⁴ apart.
        error = error + (2.0**-25 if variant.out == "f16" else 0)
        off = np.abs(got[owned] - want) / error
        if off.size and not off.max() <= 1:
            at = np.unravel_index(np.nanargmax(off), off.shape)
            sys.exit(f"error: {variant.name}, rows {rows}, seed {seed}: expert {e}, row {at[0]}, "
                     f"column {at[1]}: got {got[owned][at]}, want {want[at]} ± {error[at]}")
        worst = max(worst, off.max() if off.size else 0.0)
    return worst


@dataclasses.dataclass
class Combine:
    """A moe.combine; columns of all types and widths."""

    name: str
    rows: str = "bf16"
    out: str = "bf16"
    h: int = 64
    k: int = 2
    tokens: int = 9
    base: bool = False
    grid: int = 0

    def text(self) -> str:
        """The op, bufferized."""
        base = f"base(%base : memref<?x{self.h}x{self.out}>)" if self.base else ""
        return f"""
func.func @v(%rows: memref<?x{self.h}x{self.rows}>, %slots: memref<?x{self.k}xi32>, %w: memref<?x{self.k}xf32>,
             %base: memref<?x{self.h}x{self.out}>, %y: memref<?x{self.h}x{self.out}>) {{
  moe.combine rows(%rows : memref<?x{self.h}x{self.rows}>) slots(%slots : memref<?x{self.k}xi32>)
      weights(%w : memref<?x{self.k}xf32>) {base} outs(%y : memref<?x{self.h}x{self.out}>)
  return
}}"""

    def run(self, kernels: emulation.Kernels, seed: int) -> None:
        """One launch; sums are exact in f32, so results are equal bit for bit."""
        generator = np.random.default_rng(seed)
        m = self.tokens * self.k + 4
        slots = generator.permutation(m)[: self.tokens * self.k].reshape(self.tokens, self.k)
        slots = np.where(generator.random(slots.shape) < 0.2, -1, slots).astype(np.int32)
        rows, weights = exact(generator, (m, self.h)), exact(generator, (self.tokens, self.k))
        base = exact(generator, (self.tokens, self.h))
        y = encode(np.full((self.tokens, self.h), 7.0), self.out)
        args = [encode(rows, self.rows), slots, weights] + [encode(base, self.out)] * self.base
        args += [y, np.int32(self.tokens), np.int32(m)]
        kernels.launch("v_combine", self.grid or self.tokens, 128, args, seed=seed)
        taken = rows[np.maximum(slots, 0)].astype(np.float64) * (slots >= 0)[:, :, None]
        want = np.einsum("tk,tkh->th", weights.astype(np.float64), taken) + base * self.base
        error = np.abs(want) * 1.01 * ROUNDING[self.out] if self.out != "f32" else 0
        if (np.abs(decode(y, self.out) - want) > error).any():
            sys.exit(f"error: {self.name}, seed {seed}: a token's sum is wrong")


COMBINES = [
    Combine("combine"),
    Combine("combine-base", base=True, k=8, out="f32", h=1032),
    Combine("combine-f32", rows="f32", out="f32", h=37, k=1),
    Combine("combine-f16", rows="f16", out="f16", h=12, k=3, grid=2),
    Combine("combine-no-tokens", tokens=0, grid=1),
]


Damage = Callable[[str], str]


def drop(line: str) -> Damage:
    """The kernel without the ops that `line` is a part of."""
    return lambda text: "\n".join(t for t in text.split("\n") if line not in t)


def nth(line: str, n: int, change: Damage = lambda _: "", after: str = "") -> Damage:
    """The kernel with the n-th of the lines that have `line` changed, or without it; counted from
    the first line that has `after`."""
    def damage(text: str) -> str:
        lines = text.split("\n")
        start = next(i for i, t in enumerate(lines) if after in t)
        at = [i for i, t in enumerate(lines) if line in t and i >= start][n]
        lines[at] = change(lines[at])
        return "\n".join(lines)
    return damage


def swap(old: str, new: str) -> Damage:
    """A line with `new` for `old`, a regular expression."""
    return lambda line: re.sub(old, new, line)


def constant(value: int, operand: str) -> Damage:
    """A line with an i32 constant for the operand that the regular expression finds after its
    first group."""
    return lambda line: (f"%bad = llvm.mlir.constant({value} : i32) : i32\n"
                         + re.sub(operand + r"%\w+", r"\g<1>%bad", line, count=1))


def each(line: str, old: str, new: str) -> Callable[[str], str]:
    """The kernel with `new` for `old` in the lines that have `line`."""
    return lambda text: "\n".join(
        re.sub(old, new, t) if line in t else t for t in text.split("\n"))


# A variant, and what is done to its kernel.
MUTANTS = {
    "no wait for copies": ("plain", drop("nvvm.cp.async.wait.group")),
    "no barriers": ("plain", drop("nvvm.barrier0")),
    "waits for one copy less": ("plain", each("wait.group", "1", "2")),
    "copies that no group has": ("plain", drop("nvvm.cp.async.commit.group")),
    "pieces at other places": ("plain", lambda t: t.replace("llvm.xor", "llvm.or", 1)),
    "fragments transposed": ("plain", each("nvvm.ldmatrix", "<row>", "<col>")),
    "copies beyond K": ("parts-of-tiles", each("nvvm.cp.async.shared", r", %\w+ : (.*), i32", r" : \1")),
    "no barrier between tiles": ("few-blocks", lambda t: "".join(t.rsplit("nvvm.barrier0", 1))),
    "blocks that are passed over": ("few-blocks", nth("sreg.nctaid.x", 0, swap(
        r"nvvm.read.ptx.sreg.nctaid.x : i32", "llvm.mlir.constant(3 : i32) : i32"))),
    "rows of choices, not of tokens": ("gathered", nth("llvm.udiv", 0, swap(
        r"llvm.udiv (%\w+), .* : i32", r"llvm.or \1, \1 : i32"), after="llvm.getelementptr %arg1[")),
    "alternating: columns beyond N": (
        "alternating", lambda t: t.replace("constant(36 : i32)", "constant(40 : i32)")),
    "permute: weights of other choices": ("prologue", nth(
        "llvm.urem", 0, swap("urem", "udiv"), after="llvm.func @v_permute")),
    "permute: first rows are of the expert before": ("prologue-of-experts", nth(
        'icmp "slt"', 3, swap('"slt"', '"sle"'), after="llvm.func @v_permute")),
    "permute: pieces beyond K": ("prologue", nth('icmp "slt"', 1, constant(
        100000, r'(icmp "slt" %\w+, )'), after="llvm.func @v_permute")),
    "permute: rows that are passed over": ("prologue-in-place", nth("sreg.nctaid.x", 0, swap(
        r"nvvm.read.ptx.sreg.nctaid.x : i32", "llvm.mlir.constant(4 : i32) : i32"),
        after="llvm.func @v_permute")),
    "combine: a base that is not added": ("combine-base", each("llvm.fadd", "llvm.fadd", "llvm.fsub")),
    "combine: weights of other choices": ("combine-base", nth(
        "llvm.zext %28", 0, swap("%28", "%26"))),
    "combine: dropped choices": ("combine-base", each('icmp "ult" %27', '"ult"', '"ule"')),
    "combine: tokens that are passed over": ("combine-f16", nth("sreg.nctaid.x", 0, swap(
        r"nvvm.read.ptx.sreg.nctaid.x : i32", "llvm.mlir.constant(3 : i32) : i32"))),
}
# Schedules of each damaged kernel.
MUTANT_SEEDS = range(1, 6)


def find(variant: Variant | Combine, damaged: str) -> tuple[int, str]:
    """Under how many of the schedules a damaged kernel is found out, and how at first."""
    try:
        kernels = emulation.compile_kernels(emulation.kernels_of(damaged))
    except emulation.EmulationError as error:
        sys.exit(f"error: a damaged kernel does not compile: {error}")
    texts = []
    for seed in MUTANT_SEEDS:
        try:
            if isinstance(variant, Combine):
                variant.run(kernels, seed)
            else:
                run(variant, kernels, damaged, variant.rows[0], seed)
        except (emulation.EmulationError, SystemExit) as found:
            texts.append(str(found).splitlines()[0])
    return len(texts), (texts or [""])[0]


def check_mutants(moe_opt: str, variants: list[Variant | Combine], mutants: dict) -> None:
    """Fails if a damaged kernel passes for a good one."""
    survivors = []
    for name, (of, damage) in mutants.items():
        variant = next(v for v in variants if v.name == of)
        kernel = lower(moe_opt, variant.text())
        damaged = damage(kernel)
        if damaged == kernel:
            sys.exit(f"error: '{name}' changes nothing")
        count, text = find(variant, damaged)
        print(f"{name}: found in {count} of {len(MUTANT_SEEDS)}, {text}", flush=True)
        if not count:
            survivors.append(name)
    if survivors:
        sys.exit(f"error: not found: {survivors}")


def check(variants: list[Variant | Combine], mutants: dict, arguments: list[str]) -> None:
    """Checks the variants asked for, or all mutants."""
    moe_opt, *names = arguments
    if names == ["--mutants"]:
        return check_mutants(moe_opt, variants, mutants)
    chosen = [v for v in variants if not names or v.name.startswith(tuple(names))]
    for variant in chosen:
        lowered = lower(moe_opt, variant.text())
        kernels = emulation.compile_kernels(emulation.kernels_of(lowered))
        if isinstance(variant, Combine):
            for seed in range(1, 6):
                variant.run(kernels, seed)
            print(f"{variant.name}: ok")
            continue
        start, rows = time.monotonic(), itertools.cycle(variant.rows)
        seeds = range(1, max(variant.schedules, len(variant.rows)) + 1)
        worst = max(run(variant, kernels, lowered, next(rows), seed) for seed in seeds)
        print(f"{variant.name}: ok under {len(seeds)} schedules, at most {worst:.3f} of the bound, "
              f"{time.monotonic() - start:.1f} s", flush=True)
    if not chosen:
        sys.exit(f"error: no variant is called {names}")


def main() -> None:
    """Checks the variants asked for."""
    check([*VARIANTS, *COMBINES], MUTANTS, sys.argv[1:])


if __name__ == "__main__":
    main()
