"""Random layers: the text of a function, its arguments, and what it computes in float64.

A layer is gate (or ids from the caller) → dispatch → expert → combine, with random attributes,
sizes, element types and body. `Layer.text` is for moe-compile, `Layer.make_inputs` draws
arguments for a number of tokens, `Layer.expect` gives `Bounded` results, and integers that have
to be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bounded import Bounded, matmul
from moe import reference
from moe.reference import Groups, Renormalize
from moe.tensors import round_bf16
from random_body import Body, Value, make_body
from random_text import Argument, write

Array = np.ndarray

_ROUND = {"f32": np.float32, "f16": lambda a: np.float16(a).astype(np.float32), "bf16": round_bf16}


def _zipf(count: int) -> Array:
    """The chances of 0, 1, …: as 1, 1/2, 1/3 …"""
    chances = 1 / np.arange(1, count + 1)
    return chances / chances.sum()


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
    router: str | None = None  # logits = x·Wr: "exact" products, or any ("rounded")
    router_by_rows: bool = False  # Wr is H×E
    router_bias: bool = False
    router_narrow: bool = False  # logits are rounded to bf16
    router_cap: float | None = None  # cap · tanh(logits / cap)
    weight_scale: float = 1.0  # a factor of the weights after the gate
    groups: Groups | None = None
    renormalize: Renormalize | None = None
    scale: float = 1.0
    capacity: int | None = None
    order: str = "token_major"
    priority: bool = False
    tokens_per_group: int | None = None
    row_weight: bool = False
    base: str | None = None  # "argument", "x" (a residual) or "shared" (an expert of all tokens)
    column_sums: bool = False  # a per-expert result
    num_experts: int = 1  # E, however the type says it
    skew: str = "any"  # of ids: "any", "zipf", all to "one", "nowhere" (where they are an argument)
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
            low, high = {"one": (0, 1), "nowhere": (-3, 0)}.get(self.skew, (-2, self.num_experts + 2))
            inputs["ids"] = random.integers(low, high, (tokens, self.k))
            if self.skew == "zipf":
                inputs["ids"] = random.choice(self.num_experts, (tokens, self.k),
                                              p=_zipf(self.num_experts))
            inputs["weights"] = random.normal(size=(tokens, self.k))
        elif self.router:
            inputs |= self._make_router_weights(random, tokens)
        else:
            inputs |= self._make_logits(random, tokens)
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
        if self.base == "argument":
            inputs["base"] = random.normal(size=(tokens, self.yielded.width))
        elif self.base == "shared":
            inputs["ws"] = random.normal(size=(self.hidden, self.yielded.width))
        if self.column_sums:
            inputs["sums_init"] = random.normal(size=(self.num_experts, self.yielded.width))
        kinds = {a.name: a.kind for a in self.arguments}
        return {name: _ROUND[kinds[name]](data) if kinds[name] in _ROUND
                else data.astype("int" + kinds[name][1:]) for name, data in inputs.items()}

    def _make_router_weights(self, random: np.random.Generator, tokens: int) -> dict[str, Array]:
        """x and Wr whose products are exact, and as far apart as those of _make_logits; or any."""
        experts, exact = self.num_experts, self.router == "exact"
        shape = (experts, self.hidden)
        wr = random.integers(-2, 3, shape) / 1.0 if exact else random.normal(size=shape)
        inputs = {"wr": wr.T if self.router_by_rows else wr}
        if self.bias:
            inputs["bias"] = random.choice([0.0, 4.0], experts)
        if self.mix:
            inputs["mix"] = random.normal(size=(tokens, experts))
        if self.router_bias:
            inputs["router_bias"] = random.integers(-2, 3, experts) / 4
        if not exact:
            return inputs
        inputs["x"] = np.zeros((tokens, self.hidden))  # All keys of a token of zeros tie.
        for t in range(tokens):
            for x in random.integers(-4, 5, (50, self.hidden)) / 4:
                row = wr @ x + inputs.get("router_bias", 0)
                if np.abs(row).max() <= 8 and self._is_decided(row, inputs.get("bias")):
                    inputs["x"][t] = x
                    break
        if self.skew in ("zipf", "one") and tokens:  # Tokens that are alike go the same way.
            p = _zipf(tokens) if self.skew == "zipf" else np.eye(tokens)[0]
            inputs["x"] = inputs["x"][random.choice(tokens, tokens, p=p)]
        return inputs

    def make_logits(self, inputs: dict[str, Array]) -> Array:
        """Of the router, in float64."""
        if not self.router:
            return inputs["logits"]
        wr = np.float64(inputs["wr"])
        logits = np.float64(inputs["x"]) @ (wr if self.router_by_rows else wr.T)
        logits = logits + inputs["router_bias"] if self.router_bias else logits
        return np.tanh(logits / self.router_cap) * self.router_cap if self.router_cap else logits

    def _make_logits(self, random: np.random.Generator, tokens: int) -> dict[str, Array]:
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
                row = (self._rank(random) - experts // 2) / 4
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

    def _rank(self, random: np.random.Generator) -> Array:
        """The place of each expert in a token's order, the last is the best."""
        if self.skew == "one":
            return np.arange(self.num_experts)
        if self.skew == "zipf":  # The largest of these is expert e with the chance of e.
            chances = np.log(_zipf(self.num_experts)) + random.gumbel(size=self.num_experts)
            return np.argsort(np.argsort(chances))
        return random.permutation(self.num_experts)

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
            self.make_logits(inputs), self.k, self.score, bias=inputs.get("bias"), mix=inputs.get("mix"),
            select_on=self.select_on, scope=self.scope, groups=self.groups,
            renormalize=self.renormalize, scale=self.scale * self.weight_scale)
        # Each of exp, ln, √ and a division: below 4 units; sums: a lane of E/16 and four levels;
        # the same twice with renormalization. Its sum of signed terms can cancel: scaled up.
        units = 2 * (16 + self.num_experts / 16)
        error = units * 2.0 ** -23 * np.abs(weights)
        if self.renormalize:
            total = np.abs(weights).sum(1, keepdims=True)
            error = error * (2 + np.where(np.isfinite(total), total, 0))
        if self.router_cap:  # Logits up to 8, and four roundings of each.
            error = error + 2.0 ** -16 * np.abs(weights)
        return Bounded(weights, error + 2.0 ** -140, "f32"), ids

    def expect(self, inputs: dict[str, Array], routed: tuple[Bounded, Array] | None = None
               ) -> dict[str, Bounded | Array]:
        """The results of the layer by name; `routed` has weights and ids to be used."""
        weights, ids = routed or self._route(inputs)
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
        error = error + self.k * 2.0 ** -23 * most + self.k * 2.0 ** -149
        # An infinite weight times what may as well be 0 is NaN, or infinite with any sign.
        near_zero = (np.abs(rows.value) <= rows.error).astype(np.float64)
        infinite = np.isinf(weights.value).astype(np.float64)
        unknown = reference.combine(near_zero, slots, infinite) > 0
        y = Bounded(np.where(unknown, 0, value), np.where(unknown, np.inf, error), "f32")
        if self.base == "shared":
            y = y + matmul(Bounded(inputs["x"], 0, self.kind), Bounded(inputs["ws"], 0, self.kind))
        elif self.base:
            y = y + Bounded(inputs["x" if self.base == "x" else "base"], 0, "f32")
        return y.rounded(self.out_kind)


# --- choices --------------------------------------------------------------------------------------

def _choose_groups(random: np.random.Generator, experts: int, k: int) -> Groups:
    # Two of many small groups may be too close to be told apart, whatever the logits.
    most = experts if experts <= 12 else 4
    count = int(random.choice([c for c in range(1, most + 1) if experts % c == 0]))
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
    p.weight_scale = float(random.choice([1, 1, 1, 4]))
    if random.random() < 0.6:
        _choose_router(random, p)


def _choose_router(random: np.random.Generator, p: Layer) -> None:
    """With keys that can be bounded, products of any numbers; otherwise exact ones."""
    bounded = p.groups is None and p.scope == "all" and p.select_on == "scores" and not p.mix
    p.router = "rounded" if bounded and random.random() < 0.5 else "exact"
    p.router_by_rows = random.random() < 0.3
    p.router_bias = random.random() < 0.3 and p.groups is None
    p.router_narrow = random.random() < 0.25
    if random.random() < 0.25 and p.groups is None:
        p.router_cap = 30.0


def make_layer(seed: int, *, rounded: bool = False, without: frozenset[str] = frozenset()
               ) -> Layer:
    """The layer of a seed, complete with its text.

    Its choices follow from its logits, unless `rounded` is allowed: then those of a "rounded" router
    are right within a bound only. `without` has names of fields to be left at their defaults, and
    "step0" … "step3" of the body: a failing layer is made smaller that way.
    """
    random = np.random.default_rng(seed)
    experts = int(random.choice([1, 2, 5, 8, 12, 40], p=[0.18, 0.18, 0.18, 0.18, 0.18, 0.1]))
    k = experts if random.random() < 0.2 else int(random.integers(1, min(experts, 3) + 1))
    kind = str(random.choice(["f32", "f32", "bf16", "f16"]))
    p = Layer(tokens="%t" if random.random() < 0.8 else int(random.integers(0, 6)),
              experts=experts, num_experts=experts, k=k, hidden=int(random.choice([1, 4, 8, 9, 35])),
              kind=kind, out_kind=str(random.choice([kind, "f32"])), score=None,
              row_weight=random.random() < 0.4,
              base=[None, "argument", "x", "shared"][random.choice(4, p=[0.55, 0.15, 0.15, 0.15])],
              column_sums=random.random() < 0.1,
              skew=str(random.choice(["any", "zipf", "one", "nowhere"], p=[0.5, 0.3, 0.1, 0.1])))
    if random.random() < 0.75:
        _choose_gate(random, p)
        if p.router == "rounded" and not rounded:
            p.router = "exact"
    if random.random() < 0.4:
        p.capacity = int(random.choice([-1, 0, 1, 2, 3, 2 ** 40]))
        p.order = str(random.choice(["token_major", "choice_major"]))
        p.priority = random.random() < 0.4
        p.tokens_per_group = int(random.integers(1, 5)) if random.random() < 0.4 else None
    for name in without & _DEFAULTS.keys():
        setattr(p, name, _DEFAULTS[name])
    if p.score is None:
        p.router, p.bias, p.mix, p.groups = None, False, False, None
    if p.router is None:
        p.router_bias, p.router_narrow, p.router_cap = False, False, None
    if p.router == "exact" and p.router_cap:
        p.router_narrow = False  # Of numbers that are not exact, it makes other ties.
    if p.capacity is None:
        p.priority, p.tokens_per_group = False, None
    weight = Value("%row_weight", None, p.kind) if p.row_weight else None
    steps = [i for i in range(4) if f"step{i}" not in without]
    p.body, p.yielded = make_body(random, p.kind, Value("%rows", p.hidden, p.kind), weight, steps)
    if p.base == "x" and p.yielded.width != p.hidden:
        p.base = "shared"
    if p.column_sums:
        p.sums = p.body.reduced(p.yielded, 0)
    # The number of experts is read from the logits, or else from the first weight.
    known = p.score is not None or (p.body.weights and not p.body.weights[0].shared)
    if known and random.random() < 0.3 and "experts" not in without:
        p.experts = "%e"
    write(p)
    return p


# What a layer may do without, and what it has instead, in the order in which to try.
_DEFAULTS = {
    "column_sums": False, "base": None, "row_weight": False, "priority": False,
    "tokens_per_group": None, "capacity": None, "mix": False, "bias": False, "groups": None,
    "renormalize": None, "scale": 1.0, "scope": "all", "select_on": "scores",
    "weight_scale": 1.0, "router_cap": None, "router_narrow": False, "router_bias": False,
    "router_by_rows": False, "router": None, "score": None,
    "skew": "any", "tokens": "%t", "kind": "f32", "out_kind": "f32",
}
# Names for `without`.
PARTS = ("step0", "step1", "step2", "step3", *_DEFAULTS, "experts")
