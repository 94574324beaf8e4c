"""Random bodies of moe.expert: their text, and what they compute as `Bounded` numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np

from bounded import Bounded, matmul

Env = dict[str, Bounded]
_erf = np.vectorize(math.erf, otypes=[float])


@dataclass(frozen=True)
class Value:
    """Rows of `width` numbers each, or one number a row where width is None."""

    name: str
    width: int | None
    kind: str

    @property
    def type(self) -> str:
        return f"tensor<?x{'' if self.width is None else f'{self.width}x'}{self.kind}>"


@dataclass(frozen=True)
class Weight:
    """An array that the body reads: a slice of an E×… argument, or a shared one."""

    name: str
    shape: tuple[int, ...]
    kind: str
    shared: bool

    @property
    def type(self) -> str:
        return f"tensor<{''.join(f'{size}x' for size in self.shape)}{self.kind}>"


@dataclass
class Body:
    """A body in the making. Every method adds operations and returns their last result."""

    random: np.random.Generator
    kind: str  # of rows and weights
    lines: list[str] = field(default_factory=list)
    steps: list[tuple[str, Callable[[Env], Bounded]]] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    def run(self, env: Env) -> Env:
        """`env` has the rows, the weights and %expert; the results of all operations join it."""
        for name, step in self.steps:
            env[name] = step(env)
        return env

    def _let(self, op: str, width: int | None, kind: str,
             step: Callable[[Env], Bounded]) -> Value:
        value = Value(f"%v{len(self.lines)}", width, kind)
        self.lines.append(f"{value.name} = {op.replace('{type}', value.type)}")
        self.steps.append((value.name, step))
        return value

    def _line(self, op: str) -> str:
        """An operation that has no rows of its own in the reference."""
        name = f"%v{len(self.lines)}"
        self.lines.append(f"{name} = {op}")
        return name

    def filled(self, value: float, width: int | None, kind: str) -> Value:
        scalar = self._line(f"arith.constant {value:e} : {kind}")
        return self.spread_scalar(scalar, width, kind, lambda env: value)

    def spread_scalar(self, scalar: str, width: int | None, kind: str,
                      number: Callable[[Env], float]) -> Value:
        def step(env: Env) -> Bounded:
            shape = (int(env["%n"].value), *(() if width is None else (width,)))
            return Bounded(np.full(shape, number(env)), 0, kind)
        if len(self.lines) % 3 == 0:
            return self._let(f"tensor.splat {scalar}[%n] : {{type}}", width, kind, step)
        init = self._line(f"tensor.empty(%n) : {Value('', width, kind).type}")
        return self._let(f"linalg.fill ins({scalar} : {kind}) outs({init} : {{type}}) -> {{type}}",
                         width, kind, step)

    def _weight(self, shape: tuple[int, ...]) -> Weight:
        weight = Weight(f"%w{len(self.weights)}", shape, self.kind, self.random.random() < 0.2)
        self.weights.append(weight)
        return weight

    # --- elementwise ------------------------------------------------------------------------------

    def cast(self, x: Value, kind: str) -> Value:
        if x.kind != kind and "f32" not in (x.kind, kind):
            x = self.cast(x, "f32")
        if x.kind == kind:
            return x
        op = "extf" if kind == "f32" else "truncf"
        target = Value("", x.width, kind).type
        return self._let(f"arith.{op} {x.name} : {x.type} to {target}", x.width, kind,
                         lambda env: (env[x.name].rounded(kind) if op == "truncf" else
                                      Bounded(env[x.name].value, env[x.name].error, kind)))

    def unary(self, op: str, x: Value, step: Callable[[Bounded], Bounded]) -> Value:
        return self._let(f"{op} {x.name} : {{type}}", x.width, x.kind,
                         lambda env: step(env[x.name]))

    def binary(self, op: str, x: Value, y: Value,
               step: Callable[[Bounded, Bounded], Bounded]) -> Value:
        return self._let(f"{op} {x.name}, {y.name} : {{type}}", x.width, x.kind,
                         lambda env: step(env[x.name], env[y.name]))

    def add(self, x: Value, y: Value) -> Value:
        return self.binary("arith.addf", x, y, lambda a, b: a + b)

    def mul(self, x: Value, y: Value) -> Value:
        return self.binary("arith.mulf", x, y, lambda a, b: a * b)

    def div(self, x: Value, y: Value) -> Value:
        return self.binary("arith.divf", x, y, lambda a, b: a / b)

    def activation(self, x: Value) -> Value:
        """In f32, rounded to the type of the body at the end."""
        x = self.cast(x, "f32")
        which = self.random.choice(["silu", "relu", "relu2", "gelu", "tanh", "bell"])
        if which == "silu":
            e = self.unary("math.exp", self.unary("arith.negf", x, lambda a: -a),
                           lambda a: a.monotone(np.exp))
            y = self.div(x, self.add(e, self.filled(1.0, x.width, "f32")))
        elif which in ("relu", "relu2"):
            y = self.clamped(x, low=0.0)
            y = y if which == "relu" else self.mul(y, y)
        elif which == "gelu":
            half, root = (self.filled(v, x.width, "f32") for v in (0.5, 0.75))
            e = self.unary("math.erf", self.mul(x, root), lambda a: a.monotone(_erf))
            y = self.mul(self.mul(x, half), self.add(e, self.filled(1.0, x.width, "f32")))
        elif which == "tanh":
            y = self.unary("math.tanh", x, lambda a: a.monotone(np.tanh))
        else:
            magnitude = self.unary("math.absf", x, lambda a: a.abs())
            y = self.unary("math.exp", self.unary("arith.negf", magnitude, lambda a: -a),
                           lambda a: a.monotone(np.exp))
        return self.cast(y, self.kind)

    def clamped(self, x: Value, low: float | None = None, high: float | None = None) -> Value:
        if high is not None:
            x = self.binary("arith.minimumf", x, self.filled(high, x.width, x.kind),
                            lambda a, b: -(-a).maximum(-b))
        if low is not None:
            x = self.binary("arith.maximumf", x, self.filled(low, x.width, x.kind),
                            lambda a, b: a.maximum(b))
        return x

    # --- across rows and columns ------------------------------------------------------------------

    def linear(self, x: Value, columns: int) -> Value:
        """x·W with W as K×N, or N×K; summed in f32 and rounded once."""
        by_rows = self.random.random() < 0.5
        weight = self._weight((x.width, columns) if by_rows else (columns, x.width))
        zeros = self.filled(0.0, columns, "f32")
        maps = f"[#mk, {'#kn' if by_rows else '#nk'}, #mn]"

        def step(env: Env) -> Bounded:
            w = env[weight.name]
            return matmul(env[x.name], w if by_rows else Bounded(w.value.T, w.error.T, w.kind))
        y = self._let(f"linalg.matmul indexing_maps = {maps} ins({x.name}, {weight.name} : "
                      f"{x.type}, {weight.type}) outs({zeros.name} : {{type}}) -> {{type}}",
                      columns, "f32", step)
        return self.cast(y, self.kind)

    def columns(self, x: Value, begin: int, width: int, stride: int = 1) -> Value:
        result = Value("", width, x.kind).type
        return self._let(f"tensor.extract_slice {x.name}[0, {begin}] [%n, {width}] [1, {stride}] : "
                         f"{x.type} to {result}", width, x.kind,
                         lambda env: env[x.name][:, begin:begin + width * stride:stride])

    def spread(self, x: Value, width: int) -> Value:
        """One number a row, in all columns."""
        init = self._line(f"tensor.empty(%n) : {Value('', width, x.kind).type}")
        return self._let(f"linalg.broadcast ins({x.name} : {x.type}) outs({init} : {{type}}) "
                         "dimensions = [1]", width, x.kind,
                         lambda env: Bounded(np.repeat(env[x.name].value[:, None], width, 1),
                                             np.repeat(env[x.name].error[:, None], width, 1),
                                             x.kind))

    def vector(self, width: int) -> Value:
        """A bias or scale of the expert, in all rows."""
        weight = self._weight((width,))
        init = self._line(f"tensor.empty(%n) : {Value('', width, self.kind).type}")

        def step(env: Env) -> Bounded:
            return Bounded(np.tile(env[weight.name].value, (int(env["%n"].value), 1)), 0, self.kind)
        return self._let(f"linalg.broadcast ins({weight.name} : {weight.type}) "
                         f"outs({init} : {{type}}) dimensions = [0]", width, self.kind, step)

    def reduced(self, x: Value, dim: int) -> Value:
        """Sums over the columns (dim 1), one a row; or over the rows (dim 0), one a column."""
        zero = self._line(f"arith.constant 0.0 : {x.kind}")
        result = f"tensor<{'?' if dim else x.width}x{x.kind}>"
        init = self._line(f"tensor.empty({'%n' if dim else ''}) : {result}")
        zeros = self._line(f"linalg.fill ins({zero} : {x.kind}) outs({init} : {result}) "
                           f"-> {result}")
        return self._let(f"linalg.reduce {{ arith.addf }} ins({x.name} : {x.type}) "
                         f"outs({zeros} : {result}) dimensions = [{dim}]", None, x.kind,
                         lambda env: env[x.name].sum(dim))

    def normed(self, x: Value) -> Value:
        """RMS norm with a scale, in f32."""
        wide = self.cast(x, "f32")
        mean = self.div(self.reduced(self.mul(wide, wide), 1), self.filled(x.width, None, "f32"))
        root = self.unary("math.sqrt", self.add(mean, self.filled(0.0625, None, "f32")),
                          lambda a: a.monotone(lambda v: np.sqrt(np.maximum(v, 0))))
        y = self.div(wide, self.spread(root, x.width))
        return self.mul(self.cast(y, self.kind), self.vector(x.width))

    def of_expert(self, x: Value) -> Value:
        """x + %expert / 8."""
        integer = self._line("arith.index_cast %expert : index to i32")
        number = self._line(f"arith.sitofp {integer} : i32 to {x.kind}")
        factor = self._line(f"arith.constant 0.125 : {x.kind}")
        eighth = self._line(f"arith.mulf {number}, {factor} : {x.kind}")
        return self.add(x, self.spread_scalar(eighth, x.width, x.kind,
                                              lambda env: float(env["%expert"].value) / 8))

    def glu(self, x: Value, width: int) -> Value:
        """activation(gate) * up, from two matrices or from one, stacked or interleaved; or both
        clamped, and up + 1, as gpt-oss has it."""
        layout = self.random.choice(["apart", "stacked", "interleaved"], p=[0.5, 0.25, 0.25])
        if layout == "apart":
            gate, up = self.linear(x, width), self.linear(x, width)
        else:
            both = self.linear(x, 2 * width)
            step = 2 if layout == "interleaved" else 1
            gate = self.columns(both, 0, width, step)
            up = self.columns(both, 1 if step == 2 else width, width, step)
        if self.random.random() < 0.2:
            gate, up = self.clamped(gate, high=0.5), self.clamped(up, -0.5, 0.5)
            up = self.add(up, self.filled(1.0, up.width, up.kind))
        return self.mul(self.activation(gate), up)


def make_body(random: np.random.Generator, kind: str, rows: Value, row_weight: Value | None,
              steps: Collection[int] = range(4)) -> tuple[Body, Value]:
    """A body of up to four steps on `rows`, of which `steps` are done; the rows that it yields."""
    body, x, widths = Body(random, kind), rows, (1, 3, 8, 17, 50)
    if row_weight and random.random() < 0.5:  # Weighted before, or after.
        x, row_weight = body.mul(x, body.spread(row_weight, x.width)), None
    matmuls, others = ["glu", "linear", "low rank"], ["norm", "bias", "expert", "residual"]
    kinds = [*random.permutation(matmuls)[:random.choice([0, 1, 2], p=[0.15, 0.65, 0.2])],
             *random.permutation(others)[:random.choice([0, 1, 2], p=[0.45, 0.4, 0.15])]]
    for i, step in enumerate(random.permutation(kinds)):
        if i not in steps:
            continue
        if step == "glu":
            x = body.linear(body.glu(x, int(random.choice(widths))), int(random.choice(widths)))
        elif step == "linear":
            x = body.activation(body.linear(x, int(random.choice(widths))))
        elif step == "low rank":
            width = int(random.choice(widths))
            x = body.add(body.linear(x, width), body.linear(body.linear(x, 2), width))
        elif step == "norm":
            x = body.normed(x)
        elif step == "bias":
            x = body.add(x, body.vector(x.width))
        elif step == "expert":
            x = body.of_expert(x)
        elif x.width == rows.width:
            x = body.add(x, rows)
    if row_weight:
        x = body.mul(x, body.spread(row_weight, x.width))
    return body, x
