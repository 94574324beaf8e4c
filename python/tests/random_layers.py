"""Random layers: the text of a function, its arguments, and what it computes in float64.

A layer is gate (or ids from the caller) → dispatch → expert → combine, with random attributes,
sizes, element types and body. `Layer.text` is for moe-compile, `Layer.make_inputs` draws
arguments for a number of tokens, `Layer.expect` gives `Bounded` results, and integers that have
to be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bounded import Bounded
from moe import reference
from moe.reference import Groups, Renormalize
from moe.tensors import round_bf16
from random_body import Body, Value, Weight, make_body

Array = np.ndarray

_ROUND = {"f32": np.float32, "f16": lambda a: np.float16(a).astype(np.float32), "bf16": round_bf16}
_HEADER = """\
#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

"""


def tensor(*sizes: int | str, kind: str) -> str:
    """A tensor type; a size that is a name isn't told."""
    return "tensor<" + "".join(f"{'?' if isinstance(s, str) else s}x" for s in sizes) + kind + ">"


@dataclass(frozen=True)
class Argument:
    name: str
    type: str
    kind: str  # of numpy data: f32, bf16, f16 (held as float32), i32, i64


@dataclass
class Layer:
    """One function `layer`. What is None is absent."""

    tokens: int | str  # "%t" where the type doesn't tell it
    experts: int | str
    k: int
    hidden: int
    kind: str
    out_kind: str
    score: str | None  # None: ids are an argument
    select_on: str = "scores"
    scope: str = "all"
    bias: bool = False
    mix: bool = False
    groups: Groups | None = None
    renormalize: Renormalize | None = None
    scale: float = 1.0
    capacity: int | None = None
    order: str = "token_major"
    priority: bool = False
    tokens_per_group: int | None = None
    row_weight: bool = False
    base: bool = False
    column_sums: bool = False  # a per-expert result
    num_experts: int = 1  # E, however the type says it
    body: Body = field(default=None)
    yielded: Value = field(default=None)
    sums: Value | None = None
    arguments: list[Argument] = field(default_factory=list)
    results: list[tuple[str, str, str]] = field(default_factory=list)  # name, type, kind
    text: str = ""

    # --- numbers ----------------------------------------------------------------------------------

    def make_inputs(self, random: np.random.Generator, tokens: int) -> dict[str, Array]:
        """Arguments by name. Floats are float32 that hold values of their kind."""
        inputs = {"x": random.normal(size=(tokens, self.hidden))}
        if self.score is None:
            inputs["ids"] = random.integers(-2, self.num_experts + 2, (tokens, self.k))
            inputs["weights"] = random.normal(size=(tokens, self.k))
        else:
            inputs |= self._make_router_inputs(random, tokens)
        if self.capacity is not None:
            inputs["capacity"] = np.array(self.capacity)
        if self.tokens_per_group is not None:
            inputs["group"] = np.array(self.tokens_per_group)
        if self.priority:  # Few values: ties are decided by the order.
            inputs["priority"] = random.choice([0.25, 1, 2, np.nan], (tokens, self.k))
        if self.row_weight:
            inputs["row_weights"] = random.normal(size=(tokens, self.k))
        for weight in self.body.weights:
            shape = weight.shape if weight.shared else (self.num_experts, *weight.shape)
            inputs[weight.name[1:]] = random.normal(size=shape) / np.sqrt(weight.shape[-1])
        if self.base:
            inputs["base"] = random.normal(size=(tokens, self.yielded.width))
        if self.column_sums:
            inputs["sums_init"] = random.normal(size=(self.num_experts, self.yielded.width))
        kinds = {a.name: a.kind for a in self.arguments}
        return {name: _ROUND[kinds[name]](data) if kinds[name] in _ROUND
                else data.astype("int" + kinds[name][1:]) for name, data in inputs.items()}

    def _make_router_inputs(self, random: np.random.Generator, tokens: int) -> dict[str, Array]:
        """Keys that f32 tells apart as float64 does, or that are equal in both.

        Logits are multiples of 1/4 that differ within a token, so every score is far from the
        next; a bias is 0 or 4, more than any difference of scores. Sums of two scores are exact
        with score(none), and kept apart by drawing again otherwise.
        """
        experts = self.num_experts
        inputs = {"logits": np.empty((tokens, experts))}
        if self.bias:
            inputs["bias"] = random.choice([0.0, 4.0], experts)
        for t in range(tokens):
            while True:
                row = (random.permutation(experts) - experts // 2) / 4
                if self._is_decided(row, inputs.get("bias")):
                    break
            inputs["logits"][t] = row
        if self.score == "none":  # Ties, and the numbers that have rules of their own.
            inputs["logits"] = np.floor(inputs["logits"])
        elif tokens and random.random() < 0.3:
            inputs["logits"][random.random((tokens, experts)) < 0.2] = random.choice(
                [np.nan, -np.inf, np.inf])
        if self.mix:
            inputs["mix"] = random.normal(size=(tokens, experts))
        return inputs

    def _is_decided(self, row: Array, bias: Array | None) -> bool:
        if self.groups is None or self.groups.score == "max" or self.score == "none":
            return True
        keys = row if self.select_on == "logits" else reference.scores(row, self.score)
        keys = keys if bias is None else keys + bias
        sums = np.sort(np.sort(keys.reshape(self.groups.count, -1), 1)[:, -2:].sum(1))
        return self.select_on == "logits" or not (np.diff(sums) < 1e-4).any()

    def _route(self, inputs: dict[str, Array]) -> tuple[Bounded, Array]:
        if self.score is None:
            return Bounded(inputs["weights"], 0, "f32"), inputs["ids"]
        weights, ids = reference.gate(
            inputs["logits"], self.k, self.score, bias=inputs.get("bias"), mix=inputs.get("mix"),
            select_on=self.select_on, scope=self.scope, groups=self.groups,
            renormalize=self.renormalize, scale=self.scale)
        # Each of exp, ln, √ and a division: below 4 units; sums: a lane of E/16 and four levels;
        # the same twice with renormalization. Its sum of signed terms can cancel: scaled up.
        units = 2 * (16 + self.num_experts / 16)
        error = units * 2.0 ** -23 * np.abs(weights)
        if self.renormalize:
            total = np.abs(weights).sum(1, keepdims=True)
            error = error * (2 + np.where(np.isfinite(total), total, 0))
        return Bounded(weights, error + 2.0 ** -140, "f32"), ids

    def expect(self, inputs: dict[str, Array]) -> dict[str, Bounded | Array]:
        """The results of the layer by name."""
        weights, ids = self._route(inputs)
        tokens, choices = [inputs["x"]], []
        if self.row_weight:
            choices = [inputs["row_weights"]]
        offsets, slots, rows = reference.dispatch(
            ids, self.num_experts, tokens, choices, capacity=self.capacity, order=self.order,
            priority=inputs.get("priority"), tokens_per_group=self.tokens_per_group)
        y, sums = self._run_experts(inputs, offsets, rows)
        results = {"y": self._combine(y, slots, weights, inputs), "offsets": offsets,
                   "slots": slots}
        if self.score is not None:
            results |= {"weights": weights, "ids": ids}
        if self.column_sums:
            results["sums"] = sums
        return results

    def _run_experts(self, inputs: dict[str, Array], offsets: Array,
                     rows: list[Array]) -> tuple[Bounded, Bounded | None]:
        sliced = [w for w in self.body.weights if not w.shared]

        def body(expert: int, x: Array, *rest: Array) -> list[Array]:
            env = {"%n": Bounded(len(x)), "%expert": Bounded(expert),
                   "%rows": Bounded(x, 0, self.kind)}
            if self.row_weight:
                env["%row_weight"], rest = Bounded(rest[0], 0, self.kind), rest[1:]
            for weight, data in zip(sliced, rest, strict=True):
                env[weight.name] = Bounded(data, 0, weight.kind)
            for weight in self.body.weights:
                if weight.shared:
                    env[weight.name] = Bounded(inputs[weight.name[1:]], 0, weight.kind)
            env = self.body.run(env)
            out = [env[self.yielded.name]] + ([env[self.sums.name]] if self.sums else [])
            return [part for value in out for part in (value.value, value.error)]
        shape = (offsets[-1], self.yielded.width)
        inits = [np.zeros(shape), np.zeros(shape)]
        if self.sums:
            inits += [np.float64(inputs["sums_init"]), np.zeros(inputs["sums_init"].shape)]
        done = reference.expert(offsets, rows, [inputs[w.name[1:]] for w in sliced], inits, body)
        sums = Bounded(done[2], done[3], self.kind) if self.sums else None
        return Bounded(done[0], done[1], self.kind), sums

    def _combine(self, rows: Bounded, slots: Array, weights: Bounded,
                 inputs: dict[str, Array]) -> Bounded:
        """One f32 rounding a row, one for the base, one for the store."""
        with np.errstate(invalid="ignore"):  # A weight may be +inf or NaN; then so is y.
            value = reference.combine(rows.value, slots, weights.value)
            most = reference.combine(rows.most, slots, weights.most)
            error = most - reference.combine(np.abs(rows.value), slots, np.abs(weights.value))
        y = Bounded(value, error + self.k * 2.0 ** -23 * most + self.k * 2.0 ** -149, "f32")
        if self.base:
            y = y + Bounded(inputs["base"], 0, "f32")
        return y.rounded(self.out_kind)


# --- text -----------------------------------------------------------------------------------------

def _gate_text(p: Layer) -> list[str]:
    options = f"score({p.score})"
    if p.select_on != "scores":
        options += f" select_on({p.select_on})"
    if p.scope != "all":
        options += f" scope({p.scope})"
    if p.groups:
        options += (f" groups<count = {p.groups.count}, keep = {p.groups.keep}, "
                    f"score = {p.groups.score}, mask = {p.groups.mask}>")
    if p.renormalize:
        options += (f" renormalize<eps = {p.renormalize.eps:e} : f32, "
                    f"mode = {p.renormalize.mode}>")
    if p.scale != 1:
        options += f" scale({p.scale:e})"
    of_experts = tensor(p.tokens, p.experts, kind="f32")
    ins = f"ins(%logits : {of_experts})"
    if p.bias:
        ins += f" bias(%bias : {tensor(p.experts, kind='f32')})"
    if p.mix:
        ins += f" mix(%mix : {of_experts})"
    return [f"%weights, %ids = moe.gate {options}", f"    {ins}",
            f"    outs(%w_init, %i_init : {tensor(p.tokens, p.k, kind='f32')}, "
            f"{tensor(p.tokens, p.k, kind='i32')})"]


def _dispatch_text(p: Layer) -> list[str]:
    ids = tensor(p.tokens, p.k, kind="i32")
    ins = f"ids(%ids : {ids}) tokens(%x : {tensor(p.tokens, p.hidden, kind=p.kind)})"
    names, inits = "%offsets, %slots, %sorted", "%o_init, %i_init, %r_init"
    types = f"{_offsets(p)}, {ids}, {tensor('%m', p.hidden, kind=p.kind)}"
    if p.row_weight:
        ins += f" choices(%row_weights : {tensor(p.tokens, p.k, kind=p.kind)})"
        names, inits = names + ", %sorted_w", inits + ", %rw_init"
        types += f", {tensor('%m', kind=p.kind)}"
    if p.capacity is not None:
        ins += f" capacity(%c) order({p.order})"
    if p.priority:
        ins += f" priority(%priority : {tensor(p.tokens, p.k, kind='f32')})"
    if p.tokens_per_group is not None:
        ins += " tokens_per_group(%g)"
    return [f"{names} = moe.dispatch {ins}", f"    outs({inits} : {types})"]


def _offsets(p: Layer) -> str:
    return tensor("%e1" if isinstance(p.experts, str) else p.experts + 1, kind="i32")


def _slices(p: Layer, weight: Weight) -> str:
    return tensor(*weight.shape if weight.shared else (p.experts, *weight.shape), kind=weight.kind)


def _expert_text(p: Layer) -> list[str]:
    rows = tensor("%m", p.hidden, kind=p.kind)
    received, arguments = [("%sorted", rows)], [f"%rows: {rows}"]
    if p.row_weight:
        received.append(("%sorted_w", tensor("%m", kind=p.kind)))
        arguments.append(f"%row_weight: {tensor('%m', kind=p.kind)}")
    sliced = [w for w in p.body.weights if not w.shared]
    params = [(w.name.replace("%w", "%all_w"), _slices(p, w)) for w in sliced]
    arguments += [f"{w.name}: {w.type}" for w in sliced]
    inits = [("%y_init", tensor("%m", p.yielded.width, kind=p.kind))]
    yields = [(p.yielded.name, p.yielded.type)]
    if p.sums:
        inits.append(("%sums_init", tensor(p.experts, p.yielded.width, kind=p.kind)))
        yields.append((p.sums.name, tensor(p.yielded.width, kind=p.kind)))

    def listed(pairs: list[tuple[str, str]]) -> str:
        return f"{', '.join(n for n, _ in pairs)} : {', '.join(t for _, t in pairs)}"
    names = "%done, %sums" if p.sums else "%done"
    lines = [f"{names} = moe.expert offsets(%offsets : {_offsets(p)})",
             f"    rows({listed(received)})"]
    if params:
        lines.append(f"    params({listed(params)})")
    return [*lines, f"    outs({listed(inits)}) {{",
            f"^bb0(%expert: index, {', '.join(arguments)}):",
            f"  %n = tensor.dim %rows, %c0 : {rows}", *("  " + line for line in p.body.lines),
            f"  moe.yield {listed(yields)}", "}"]


def _combine_text(p: Layer) -> list[str]:
    base, y = "", tensor(p.tokens, p.yielded.width, kind=p.out_kind)
    if p.base:
        base = f" base(%base : {tensor(p.tokens, p.yielded.width, kind='f32')})"
    weights = tensor(p.tokens, p.k, kind="f32")
    return [f"%y = moe.combine rows(%done : {tensor('%m', p.yielded.width, kind=p.kind)})",
            f"    slots(%slots : {tensor(p.tokens, p.k, kind='i32')}) weights(%weights : {weights})"
            + base, f"    outs(%s_init : {y})"]


def _sizes_text(p: Layer) -> list[str]:
    """%t, %m, %e1, the capacity, and all destinations."""
    def empty(name: str, *sizes: int | str, kind: str) -> str:
        values = ", ".join(size for size in sizes if isinstance(size, str))
        return f"%{name} = tensor.empty({values}) : {tensor(*sizes, kind=kind)}"
    lines = ["%c0 = arith.constant 0 : index", "%c1 = arith.constant 1 : index",
             f"%k = arith.constant {p.k} : index"]
    x = tensor(p.tokens, p.hidden, kind=p.kind)
    lines += [f"%t = tensor.dim %x, %c0 : {x}", "%m = arith.muli %t, %k : index"]
    if isinstance(p.experts, str):
        name, type_ = "all_w0", _slices(p, p.body.weights[0]) if p.body.weights else ""
        if p.score:
            name, type_ = "logits", tensor(p.tokens, p.experts, kind="f32")
        lines += [f"%ce = arith.constant {1 if p.score else 0} : index",
                  f"%e = tensor.dim %{name}, %ce : {type_}", "%e1 = arith.addi %e, %c1 : index"]
    for value, name in (("c", "capacity"), ("g", "group")):
        if any(a.name == name for a in p.arguments):
            lines += [f"%{value}64 = tensor.extract %{name}[] : tensor<i64>",
                      f"%{value} = arith.index_cast %{value}64 : i64 to index"]
    offsets = "%e1" if isinstance(p.experts, str) else p.experts + 1
    lines += [empty("o_init", offsets, kind="i32"), empty("i_init", p.tokens, p.k, kind="i32"),
              empty("w_init", p.tokens, p.k, kind="f32"),
              empty("r_init", "%m", p.hidden, kind=p.kind), empty("rw_init", "%m", kind=p.kind),
              empty("y_init", "%m", p.yielded.width, kind=p.kind),
              empty("s_init", p.tokens, p.yielded.width, kind=p.out_kind)]
    return lines


def _list_arguments(p: Layer) -> list[Argument]:
    of_choices = tensor(p.tokens, p.k, kind="f32")
    listed = [Argument("x", tensor(p.tokens, p.hidden, kind=p.kind), p.kind)]
    if p.score is None:
        listed += [Argument("ids", tensor(p.tokens, p.k, kind="i32"), "i32"),
                   Argument("weights", of_choices, "f32")]
    else:
        listed.append(Argument("logits", tensor(p.tokens, p.experts, kind="f32"), "f32"))
    optional = [(p.bias, "bias", tensor(p.experts, kind="f32"), "f32"),
                (p.mix, "mix", tensor(p.tokens, p.experts, kind="f32"), "f32"),
                (p.capacity is not None, "capacity", "tensor<i64>", "i64"),
                (p.tokens_per_group is not None, "group", "tensor<i64>", "i64"),
                (p.priority, "priority", of_choices, "f32"),
                (p.row_weight, "row_weights", tensor(p.tokens, p.k, kind=p.kind), p.kind)]
    listed += [Argument(*rest) for present, *rest in optional if present]
    listed += [Argument(w.name[1:], _slices(p, w), w.kind) for w in p.body.weights]
    if p.base:
        listed.append(Argument("base", tensor(p.tokens, p.yielded.width, kind="f32"), "f32"))
    if p.column_sums:
        sums = tensor(p.experts, p.yielded.width, kind=p.kind)
        listed.append(Argument("sums_init", sums, p.kind))
    return listed


def _write(p: Layer) -> None:
    """Fills in what follows from the choices: arguments, results, text."""
    p.arguments = _list_arguments(p)
    p.results = [("y", tensor(p.tokens, p.yielded.width, kind=p.out_kind), p.out_kind),
                 ("offsets", _offsets(p), "i32"),
                 ("slots", tensor(p.tokens, p.k, kind="i32"), "i32")]
    if p.score is not None:
        p.results += [("weights", tensor(p.tokens, p.k, kind="f32"), "f32"),
                      ("ids", tensor(p.tokens, p.k, kind="i32"), "i32")]
    if p.column_sums:
        p.results.append(("sums", tensor(p.experts, p.yielded.width, kind=p.kind), p.kind))
    sliced = {w.name for w in p.body.weights if not w.shared}
    arguments = ", ".join(
        f"{('%' + a.name).replace('%w', '%all_w') if '%' + a.name in sliced else '%' + a.name}: "
        f"{a.type}" for a in p.arguments)
    lines = [*_sizes_text(p), *(_gate_text(p) if p.score is not None else []), *_dispatch_text(p),
             *_expert_text(p), *_combine_text(p),
             f"return {', '.join('%' + n for n, _, _ in p.results)} : "
             f"{', '.join(t for _, t, _ in p.results)}"]
    results = ", ".join(type_ for _, type_, _ in p.results)
    p.text = (_HEADER + f"func.func @layer({arguments})\n    -> ({results}) {{\n"
              + "".join(f"  {line}\n" for line in lines) + "}\n")


# --- choices --------------------------------------------------------------------------------------

def _choose_groups(random: np.random.Generator, experts: int, k: int) -> Groups:
    count = int(random.choice([c for c in range(1, experts + 1) if experts % c == 0]))
    size = experts // count
    keep = int(random.integers(-(-k // size), count + 1))
    score = "top2_sum" if size > 1 and random.random() < 0.5 else "max"
    return Groups(count, keep, score, str(random.choice(["neg_inf", "zero"])))


def _choose_gate(random: np.random.Generator, p: Layer) -> None:
    p.score = str(random.choice(["softmax", "sigmoid", "sqrt_softplus", "none"]))
    p.bias, p.mix = random.random() < 0.3, random.random() < 0.2
    if p.score == "softmax" and random.random() < 0.4:
        p.scope = "selected"
    p.select_on = "logits" if random.random() < 0.3 else "scores"
    if random.random() < 0.3:
        p.groups = _choose_groups(random, p.num_experts, p.k)
    # A sum of signed weights may be near 0, and then nothing bounds the quotient.
    if random.random() < 0.5 and p.score != "none" and not (p.mix and p.scope == "all"):
        p.renormalize = Renormalize(float(random.choice([0, 2.0 ** -20, 0.5])),
                                    str(random.choice(["add", "clamp"])))
    p.scale = float(random.choice([1, 1, 2.5, -0.5]))


def make_layer(seed: int) -> Layer:
    """The layer of a seed, complete with its text."""
    random = np.random.default_rng(seed)
    experts = int(random.choice([1, 2, 5, 8, 12]))
    k = experts if random.random() < 0.2 else int(random.integers(1, min(experts, 3) + 1))
    kind = str(random.choice(["f32", "f32", "bf16", "f16"]))
    p = Layer(tokens="%t" if random.random() < 0.8 else int(random.integers(0, 6)),
              experts=experts, num_experts=experts, k=k, hidden=int(random.choice([1, 4, 8, 9])),
              kind=kind, out_kind=str(random.choice([kind, "f32"])), score=None,
              row_weight=random.random() < 0.4, base=random.random() < 0.4,
              column_sums=random.random() < 0.3)
    if random.random() < 0.75:
        _choose_gate(random, p)
    if random.random() < 0.4:
        p.capacity = int(random.choice([-1, 0, 1, 2, 3, 2 ** 40]))
        p.order = str(random.choice(["token_major", "choice_major"]))
        p.priority = random.random() < 0.4
        p.tokens_per_group = int(random.integers(1, 5)) if random.random() < 0.4 else None
    weight = Value("%row_weight", None, kind) if p.row_weight else None
    p.body, p.yielded = make_body(random, kind, Value("%rows", p.hidden, kind), weight)
    if p.column_sums:
        p.sums = p.body.reduced(p.yielded, 0)
    # The number of experts is read from the logits, or else from the first weight.
    known = p.score is not None or (p.body.weights and not p.body.weights[0].shared)
    if known and random.random() < 0.3:
        p.experts = "%e"
    _write(p)
    return p
