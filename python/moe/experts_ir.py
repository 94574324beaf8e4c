"""The experts part of a transformers MoE layer as IR: hidden states, ids and weights → y.

It has the layout of transformers 5 (`gate_up_proj` E×2I×H with the gate rows first, `down_proj`
E×H×I, i64 ids) and rounds where `models/ROUNDING.md` says that "grouped_mm" experts round.
"""

from __future__ import annotations

from typing import NamedTuple


class Experts(NamedTuple):
    """What an artifact is compiled for; T, the number of tokens, stays dynamic."""

    experts: int  # E
    hidden: int  # H
    width: int  # I
    top_k: int  # k
    dtype: str  # MLIR type of hidden states and of the experts' weights: f32, bf16, f16
    weight: str  # MLIR type of the routing weights
    activation: str  # silu or relu


class _Text:
    """Lines of IR; every method adds an op and returns the name of its result."""

    def __init__(self, indent: int) -> None:
        self.lines: list[str] = []
        self._indent = " " * indent

    def let(self, name: str, op: str) -> str:
        self.lines.append(f"{self._indent}%{name} = {op}")
        return f"%{name}"

    def empty(self, name: str, size: str, kind: str) -> str:
        return self.let(f"{name}_init", f"tensor.empty({size}) : {kind}")

    def filled(self, name: str, value: str, size: str, kind: str) -> str:
        init = self.empty(name, size, kind)
        return self.let(name, f"linalg.fill ins({value} : f32) outs({init} : {kind}) -> {kind}")

    def cast(self, name: str, value: str, source: str, target: str) -> str:
        """`value` in another floating point type; itself when the types are the same."""
        if source == target:
            return value
        op = "truncf" if source.endswith("f32>") else "extf"
        return self.let(name, f"arith.{op} {value} : {source} to {target}")

    def linear(self, name: str, x: str, inner: int, w: str, columns: int, dtype: str) -> str:
        """x·wᵀ, summed in f32 and rounded once to dtype."""
        wide = f"tensor<?x{columns}xf32>"
        zeros = self.filled(f"{name}_zero", "%zero", "%n", wide)
        product = self.let(f"{name}_sum", "linalg.matmul indexing_maps = [#x, #w, #y]\n"
                           f"        ins({x}, {w} : tensor<?x{inner}x{dtype}>, "
                           f"tensor<{columns}x{inner}x{dtype}>)\n"
                           f"        outs({zeros} : {wide}) -> {wide}")
        return self.cast(name, product, wide, f"tensor<?x{columns}x{dtype}>")


def _activation(text: _Text, kind: str, g: str, wide: str) -> str:
    if kind == "relu":
        zeros = text.filled("zeros", "%zero", "%n", wide)
        return text.let("act", f"arith.maximumf {g}, {zeros} : {wide}")
    ones = text.filled("ones", "%one", "%n", wide)
    minus = text.let("minus", f"arith.negf {g} : {wide}")
    e = text.let("e", f"math.exp {minus} : {wide}")
    below = text.let("below", f"arith.addf {e}, {ones} : {wide}")
    return text.let("act", f"arith.divf {g}, {below} : {wide}")


def _body(p: Experts, rounds_weighted_rows: bool) -> tuple[list[str], str]:
    text, two = _Text(4), 2 * p.width
    narrow, wide = f"tensor<?x{p.width}x{p.dtype}>", f"tensor<?x{p.width}xf32>"
    rows = f"tensor<?x{p.hidden}x{p.dtype}>"
    text.let("n", f"tensor.dim %h, %c0 : {rows}")
    both = text.linear("both", "%h", p.hidden, "%gu", two, p.dtype)
    g, u = (text.let(name, f"tensor.extract_slice {both}[0, {at}] [%n, {p.width}] [1, 1] : "
                     f"tensor<?x{two}x{p.dtype}> to {narrow}")
            for name, at in (("g", 0), ("u", p.width)))
    act = _activation(text, p.activation, text.cast("g32", g, narrow, wide), wide)
    act = text.cast("act_rounded", act, wide, narrow)
    gated = text.let("gated", f"arith.mulf {act}, {u} : {narrow}")
    out = text.linear("out", gated, p.width, "%down", p.hidden, p.dtype)
    if rounds_weighted_rows:
        init = text.empty("row_weights", "%n", rows)
        spread = text.let("row_weights", f"linalg.broadcast ins(%row_w : tensor<?x{p.weight}>) "
                          f"outs({init} : {rows}) dimensions = [1]")
        out = text.let("weighted", f"arith.mulf {out}, {spread} : {rows}")
    return text.lines, out


def experts_ir(p: Experts, name: str = "experts") -> str:
    """The text of `func @name(hidden, ids, weights, gate_up, down) -> y`."""
    # Weights of the storage type round each weighted row (weight times row is of that type), so
    # that product belongs to the body; f32 weights don't, and are left to combine.
    rounds = p.weight == p.dtype != "f32"
    rows, ids = f"tensor<?x{p.hidden}x{p.dtype}>", f"tensor<?x{p.top_k}xi32>"
    weights, row_w = f"tensor<?x{p.top_k}x{p.weight}>", f"tensor<?x{p.weight}>"
    gate_up = f"{2 * p.width}x{p.hidden}x{p.dtype}"
    down, offsets = f"{p.hidden}x{p.width}x{p.dtype}", f"tensor<{p.experts + 1}xi32>"
    params = f"tensor<{p.experts}x{gate_up}>, tensor<{p.experts}x{down}>"
    payloads, inits, sorted_w = f"tokens(%x : {rows})", "%offsets_init, %slots_init, %rows_init", ""
    types, received, argument = f"{offsets}, {ids}, {rows}", f"%rows : {rows}", ""
    text = _Text(2)
    text.let("t", f"tensor.dim %x, %c0 : {rows}")
    text.let("m", "arith.muli %t, %k : index")
    text.let("ids", f"arith.trunci %ids64 : tensor<?x{p.top_k}xi64> to {ids}")
    text.empty("offsets", "", offsets)
    text.empty("slots", "%t", ids)
    text.empty("rows", "%m", rows)
    combine_w, combine_t = "%w", weights
    if rounds:
        inits += f", {text.empty('rows_w', '%m', row_w)}"
        payloads, sorted_w = f"{payloads} choices(%w : {weights})", ", %rows_w"
        types, received = f"{types}, {row_w}", f"%rows, %rows_w : {rows}, {row_w}"
        argument, combine_t = f" %row_w: {row_w},", f"tensor<?x{p.top_k}xf32>"
        combine_w = text.filled("once", "%one", "%t", combine_t)
    text.empty("out", "%m", rows)
    text.empty("y", "%t", rows)
    body, yielded = _body(p, rounds)
    setup, inside = "\n".join(text.lines), "\n".join(body)
    return f"""\
// The experts of a transformers layer: {p.experts} of {p.hidden} -> {p.width} -> {p.hidden}, \
{p.top_k} a token, {p.activation}.
#x = affine_map<(m, n, k) -> (m, k)>
#w = affine_map<(m, n, k) -> (n, k)>
#y = affine_map<(m, n, k) -> (m, n)>

func.func @{name}(%x: {rows}, %ids64: tensor<?x{p.top_k}xi64>, %w: {weights},
    %gate_up: tensor<{p.experts}x{gate_up}>, %down_proj: tensor<{p.experts}x{down}>) -> {rows} {{
  %c0 = arith.constant 0 : index
  %k = arith.constant {p.top_k} : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
{setup}
  %offsets, %slots, %rows{sorted_w} = moe.dispatch ids(%ids : {ids})
      {payloads}
      outs({inits} : {types})
  %out = moe.expert offsets(%offsets : {offsets}) rows({received})
      params(%gate_up, %down_proj : {params})
      outs(%out_init : {rows}) {{
  ^bb0(%expert: index, %h: {rows},{argument} %gu: tensor<{gate_up}>, %down: tensor<{down}>):
{inside}
    moe.yield {yielded} : {rows}
  }}
  %y = moe.combine rows(%out : {rows}) slots(%slots : {ids})
      weights({combine_w} : {combine_t}) outs(%y_init : {rows})
  return %y : {rows}
}}
"""
