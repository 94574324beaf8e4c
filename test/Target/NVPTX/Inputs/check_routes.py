"""Runs the kernels of moe.gate and moe.route under emulation and compares them with the general
lowering, bit for bit.

usage: check_routes.py MOE_OPT gates|routes [NAME…]   (all variants, or those whose name starts so)
       check_routes.py MOE_OPT mutants                damaged kernels, each of which must be found out

The general lowering of all variants is one function that moe-compile makes (MOE_COMPILE). Logits of
gates are anything, NaN, infinities and ties among them; those of routes are sums of products that are
exact in any order, and ties too. Prints a line a variant.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
from check_kernels import Damage, constant, decode, each, encode, exact, lower, nth, swap
from moe import artifact, emulation, reference

TYPES = {"f32": "f32", "bf16": "bf16", "f16": "f16", "i32": "i32"}


@dataclasses.dataclass
class Operand:
    """A buffer of the op: its name, sizes (−1 for T), type, and values."""

    name: str
    shape: tuple[int, ...]
    kind: str
    values: np.ndarray | None = None

    def type(self, container: str) -> str:
        """Its type as a tensor or memref."""
        sizes = "x".join("?" if size < 0 else str(size) for size in self.shape)
        return f"{container}<{sizes}x{self.kind}>"

    def empty(self, tokens: int, fill: int = 77) -> np.ndarray:
        """Memory for it."""
        storage = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i32": np.int32}
        return np.full([tokens if s < 0 else s for s in self.shape], fill, storage[self.kind])


class Variant:
    """An op with operands that are read and written."""

    name: str
    tokens: tuple[int, ...] = (5,)

    def inputs(self) -> list[Operand]:
        """What is read, in the order of the op's text."""
        raise NotImplementedError

    def outputs(self) -> list[Operand]:
        """What is compared with the general lowering."""
        raise NotImplementedError

    def op(self, of: str, container: str) -> str:
        """The op, whose operands are named with the suffix `of`."""
        raise NotImplementedError

    def kernel_text(self) -> str:
        """The op bufferized, in a function of its name."""
        of = self.symbol()
        arguments = [f"%{o.name}{of}: {o.type('memref')}" for o in self.all_operands()]
        return f"func.func @{of}({', '.join(arguments)}) {{\n{self.op(of, 'memref')}\nreturn\n}}"

    def all_operands(self) -> list[Operand]:
        """Everything that the op names."""
        return self.inputs() + self.outputs()

    def symbol(self) -> str:
        """A name for functions and kernels."""
        return "v_" + self.name.replace("-", "_")


@dataclasses.dataclass
class Gate(Variant):
    """A moe.gate; `how` is what stands between its name and its operands."""

    name: str
    experts: int
    k: int
    how: str
    bias: bool = False
    mix: bool = False
    tokens: tuple[int, ...] = (0, 1, 23)

    def inputs(self) -> list[Operand]:
        made = [Operand("l", (-1, self.experts), "f32")]
        made += [Operand("b", (self.experts,), "f32")] * self.bias
        return made + [Operand("m", (-1, self.experts), "f32")] * self.mix

    def outputs(self) -> list[Operand]:
        return [Operand("w", (-1, self.k), "f32"), Operand("i", (-1, self.k), "i32")]

    def op(self, of: str, container: str) -> str:
        types = {o.name: o.type(container) for o in self.all_operands()}
        bias = f"bias(%b{of} : {types['b']})" if self.bias else ""
        mix = f"mix(%m{of} : {types['m']})" if self.mix else ""
        return (f"moe.gate {self.how} ins(%l{of} : {types['l']}) {bias} {mix} "
                f"outs(%w{of}, %i{of} : {types['w']}, {types['i']})")

    def draw(self, generator: np.random.Generator, tokens: int) -> dict[str, np.ndarray]:
        """Logits with everything that a float can be."""
        shape = (tokens, self.experts)
        logits = generator.normal(0, 3, shape).astype(np.float32)
        logits = np.where(generator.random(shape) < 0.3, np.round(logits), logits)  # ties
        for value in (np.nan, np.inf, -np.inf, -0.0, 0.0, 95.0, -110.0):
            logits = np.where(generator.random(shape) < 0.02, np.float32(value), logits)
        if tokens > 4:  # infinite maxima; a whole row of NaN
            logits[0], logits[1, 0], logits[2] = -np.inf, np.inf, np.nan
            logits[3] = np.round(logits[3] / 4)
        bias = generator.normal(0, 1, self.experts).astype(np.float32)
        return {"l": logits.astype(np.float32), "b": bias,
                "m": generator.normal(0, 1, shape).astype(np.float32)}

    def launch(self, kernels: emulation.Kernels, data: dict[str, np.ndarray], tokens: int,
               seed: int) -> list[np.ndarray]:
        """Weights and ids of the kernel."""
        w, i = (o.empty(tokens) for o in self.outputs())
        args = [data["l"]] + [data["m"]] * self.mix + [data["b"]] * self.bias + [w, i]
        kernels.launch(f"{self.symbol()}_gate", seed % 3 + 1, 128, [*args, np.int32(tokens)],
                       seed=seed)
        return [w, i]


GATES = [
    Gate("softmax", 8, 2, "score(softmax)"),
    Gate("olmoe", 64, 8, "score(softmax) renormalize<eps = 0.0 : f32>"),
    Gate("gpt-oss", 32, 4, "score(softmax) scope(selected)"),
    Gate("deepseek-v2", 160, 6, "score(softmax) groups<count = 8, keep = 3, score = max, mask = zero> scale(16.0)"),
    Gate("deepseek-v3", 256, 8, "score(sigmoid) groups<count = 8, keep = 4, score = top2_sum> "
         "renormalize<eps = 1.0e-20 : f32> scale(2.5)", bias=True),
    Gate("odd-groups", 70, 5, "score(sigmoid) groups<count = 14, keep = 3, score = top2_sum>", bias=True),
    Gate("sqrt-softplus", 257, 6, "score(sqrt_softplus) renormalize<eps = 0.1 : f32, mode = clamp>", bias=True),
    Gate("on-logits", 40, 3, "score(sigmoid) select_on(logits)"),
    Gate("softmax-on-logits", 33, 7, "score(softmax) select_on(logits) renormalize<eps = 1.0 : f32>"),
    Gate("mix", 40, 3, "score(none) renormalize<eps = 0.0 : f32>", mix=True, bias=True),
    Gate("mix-selected", 17, 17, "score(softmax) scope(selected)", mix=True),
    Gate("one-expert", 1, 1, "score(sigmoid)"),
    Gate("many-choices", 40, 32, "score(none)"),
]


@dataclasses.dataclass
class Route(Variant):
    """A moe.route. `logits` and `weights` are the bodies of its regions, for %sum and %weight."""

    name: str
    experts: int
    k: int
    how: str
    length: int = 64
    kind: str = "bf16"  # of x
    router: str = "bf16"
    transposed: bool = False
    logits: str = ""
    weights: str = ""
    out: str = "f32"
    bias: bool = False
    extra: tuple[str, tuple[int, ...]] | None = None  # index and sizes of an f32 extra of logits
    weight_extra: bool = False  # an f32 extra of weights, by expert
    places: int = 0  # E' where there is an id map
    capacity: bool = False
    mix: bool = False
    tokens: tuple[int, ...] = (0, 1, 7, 19)

    def inputs(self) -> list[Operand]:
        router = (self.length, self.experts) if self.transposed else (self.experts, self.length)
        made = [Operand("x", (-1, self.length), self.kind), Operand("r", router, self.router)]
        made += [Operand("e", self.extra[1], "f32")] if self.extra else []
        made += [Operand("b", (self.experts,), "f32")] * self.bias
        made += [Operand("f", (self.experts,), "f32")] * self.weight_extra
        return made + [Operand("p", (self.experts,), "i32")] * bool(self.places)

    def outputs(self) -> list[Operand]:
        return [Operand("w", (-1, self.k), self.out), Operand("i", (-1, self.k), "i32")]

    def rows(self) -> list[Operand]:
        """What the plan makes; compared with numpy's."""
        return [Operand("o", ((self.places or self.experts) + 1,), "i32"),
                Operand("s", (-1, self.k), "i32"), Operand("q", (-1,), "i32")]

    def all_operands(self) -> list[Operand]:
        return self.inputs() + self.outputs() + self.rows()

    def op(self, of: str, container: str) -> str:
        types = {o.name: o.type(container) for o in self.all_operands()}
        place = "k, e" if self.transposed else "e, k"
        text = f"""moe.route {self.how}
            router(%x{of}[t, k] * %r{of}[{place}] : {types['x']}, {types['r']})"""
        if self.extra:
            text += f" extras(%e{of}[{self.extra[0]}] : {types['e']})"
        if self.bias:
            text += f" bias(%b{of} : {types['b']})"
        if self.weight_extra:
            text += f" weight_extras(%f{of}[e] : {types['f']})"
        if self.places:
            text += f" id_map(%p{of} : {types['p']})"
        if self.capacity:
            text = f"%c{of} = arith.constant 2 : index\n" + text + f" capacity(%c{of})"
        outs = self.outputs() + self.rows()
        text += f""" outs({', '.join(f'%{o.name}{of}' for o in outs)}
                 : {', '.join(types[o.name] for o in outs)})"""
        if self.logits:
            text += f" logits {{\n^bb0(%sum: f32{', %extra: f32' if self.extra else ''}):\n{self.logits}\n}}"
        if self.weights:
            argument = ", %factor: f32" if self.weight_extra else ""
            text += f" weights {{\n^bb0(%weight: f32{argument}):\n{self.weights}\n}}"
        return text

    def draw(self, generator: np.random.Generator, tokens: int) -> dict[str, np.ndarray]:
        """Sums that f32 holds exactly."""
        x = exact(generator, (tokens, self.length))
        r = exact(generator, (self.experts, self.length))
        r[1::2] = np.where(generator.random(r[1::2].shape) < 0.5, r[1::2], r[0])  # near ties
        r[-1] = r[0]  # and ties
        shape = [tokens if s < 0 else s for s in self.extra[1]] if self.extra else ()
        places = generator.permutation(self.experts + 2)[:self.experts] - 1
        return {"x": encode(x, self.kind), "r": encode(r.T if self.transposed else r, self.router),
                "b": exact(generator, (self.experts,)), "e": exact(generator, tuple(shape)),
                "f": exact(generator, (self.experts,)), "p": places.astype(np.int32)}

    def launch(self, kernels: emulation.Kernels, data: dict[str, np.ndarray], tokens: int,
               seed: int) -> list[np.ndarray]:
        """Weights and ids of the kernels, which are launched as the host does; checks the plan."""
        logits, mix = self.launch_logits(kernels, data, tokens, seed, few=tokens <= 16)
        if not self.logits:
            self.check_logits(data, logits)
            self.check_inexact_logits(kernels, tokens, seed)
        w, i = (o.empty(tokens) for o in self.outputs())
        args = [logits, *mix] + [data["b"]] * self.bias + [data["p"]] * bool(self.places)
        kernels.launch(f"{self.symbol()}_route_select", seed % 3 + 1, 128,
                       [*args, w, i] + [data["f"]] * self.weight_extra + [np.int32(tokens)],
                       seed=seed)
        self.check_plan(kernels, i, seed)
        return [w, i]

    def launch_logits(self, kernels: emulation.Kernels, data: dict[str, np.ndarray], tokens: int,
                      seed: int, few: bool) -> tuple[np.ndarray, list[np.ndarray]]:
        """Logits, and mix if there is one, of the kernel for few or for many tokens."""
        logits = np.full((tokens, self.experts), np.nan, np.float32)
        mix = [np.full_like(logits, np.nan)] * self.mix
        args = [data["x"], data["r"], logits, *mix] + ([data["e"]] if self.extra else [])
        kernels.launch(f"{self.symbol()}_route_{'few_' if few else ''}logits", seed % 4 + 1,
                       128 if few else 256, [*args, np.int32(tokens)], seed=seed)
        return logits, mix

    def check_inexact_logits(self, kernels: emulation.Kernels, tokens: int, seed: int) -> None:
        """Any numbers: both tiles give the same bits, within the bound of a sum of K terms."""
        generator = np.random.default_rng(seed)
        x, r = (generator.normal(0, 1, shape).astype(np.float32)
                for shape in ((tokens, self.length), (self.experts, self.length)))
        data = {"x": encode(x, self.kind), "r": encode(r.T if self.transposed else r, self.router)}
        few, many = (self.launch_logits(kernels, data, tokens, seed, few)[0] for few in (True, False))
        x, r = decode(data["x"], self.kind), decode(data["r"], self.router)
        r = r.T if self.transposed else r
        error = np.abs(many - x @ r.T)
        bound = self.length * 2.0**-24 * (np.abs(x) @ np.abs(r.T))
        if not np.array_equal(few, many) or (error > bound).any():
            sys.exit(f"error: {self.name}: logits are off by {error.max()}, or depend on the tile")

    def check_logits(self, data: dict[str, np.ndarray], logits: np.ndarray) -> None:
        """Exact sums: bit for bit."""
        router = decode(data["r"], self.router)
        wanted = decode(data["x"], self.kind) @ (router if self.transposed else router.T)
        if not np.array_equal(logits, wanted.astype(np.float32)):
            sys.exit(f"error: {self.name}: logits are\n{logits}, want\n{wanted}")

    def check_plan(self, kernels: emulation.Kernels, ids: np.ndarray, seed: int) -> None:
        """Offsets, slots and source are those of numpy."""
        experts = self.places or self.experts
        o, s, q = (r.empty(len(ids)) for r in self.rows())
        q = np.full(ids.size + 3, 77, np.int32)
        warps = next(w for w in (32, 16, 8, 4) if 4 * ((w + 2) * experts + 1) <= 48 * 1024)
        launch = dict(block=32 * warps, seed=seed, shared=4 * ((warps + 2) * experts + 1))
        number, tokens = np.int32(ids.size), np.int32(len(ids))
        if self.capacity:
            kernels.launch(f"{self.symbol()}_plan_mark", 1, args=[
                ids, s, tokens, number, np.int32(2), np.int32(max(1, tokens))], **launch)
        counts = np.empty((64, experts), np.int32)
        kernels.launch(f"{self.symbol()}_plan", 1, args=[ids, o, s, q, counts, number,
                                                         np.int32(q.size)], **launch)
        wanted = reference.plan(ids, experts, q.size, capacity=2 if self.capacity else None)
        for got, want in zip((o, s, q), wanted):
            if not np.array_equal(got, want):
                sys.exit(f"error: {self.name}: the plan has\n{got}, want\n{want}")


ROUNDED = """%r = arith.truncf %sum : f32 to bf16
%logit = arith.extf %r : bf16 to f32
moe.yield %logit : f32"""

ROUTES = [
    Route("mixtral", 8, 2, "score(softmax) renormalize<eps = 0.0 : f32>", length=256, logits=ROUNDED),
    Route("plain", 40, 6, "score(softmax)", length=512),
    Route("deepseek-v3", 256, 8, "score(sigmoid) groups<count = 8, keep = 4, score = top2_sum> "
          "renormalize<eps = 1.0e-20 : f32> scale(2.5)", kind="f32", router="f32", length=36, bias=True),
    Route("gpt-oss", 32, 4, "score(softmax) scope(selected)", extra=("e", (32,)), out="bf16",
          logits="%l = arith.addf %sum, %extra : f32\nmoe.yield %l : f32",
          weights="%o = arith.truncf %weight : f32 to bf16\nmoe.yield %o : bf16"),
    Route("mixed-types", 70, 3, "score(sigmoid)", router="f32", length=132),
    Route("odd-length", 9, 2, "score(softmax)", kind="f16", router="f16", length=37),
    Route("transposed", 13, 3, "score(softmax)", transposed=True, length=72),
    Route("scaled-experts", 16, 2, "score(softmax)", weight_extra=True,
          weights="%o = arith.mulf %weight, %factor : f32\nmoe.yield %o : f32"),
    Route("mix", 20, 3, "score(none)", mix=True, extra=("t, e mod 4", (-1, 4)),
          logits="%l = arith.addf %sum, %extra : f32\n%m = arith.mulf %l, %extra : f32\n"
                 "moe.yield %l, %m : f32, f32"),
    Route("id-map", 10, 2, "score(softmax)", places=9, capacity=True),
    Route("one-expert", 1, 1, "score(sigmoid)"),
]


def general(variants: list[Variant]) -> artifact.Artifact:
    """All ops in one function on tensors, by the general lowering."""
    arguments, results, types, body = [], [], [], ["%c0 = arith.constant 0 : index"]
    for variant in variants:
        of = variant.symbol()
        arguments += [f"%{o.name}{of}: {o.type('tensor')}" for o in variant.inputs()]
        first = variant.inputs()[0]
        body.append(f"%t{of} = tensor.dim %{first.name}{of}, %c0 : {first.type('tensor')}")
        written = [o for o in variant.all_operands() if o.name in "wiosq"]
        for operand in written:
            size = f"%t{of}" if -1 in operand.shape else ""
            if operand.name == "q":
                body += [f"%k{of} = arith.constant {variant.k} : index",
                         f"%rows{of} = arith.muli %t{of}, %k{of} : index"]
                size = f"%rows{of}"
            body.append(f"%{operand.name}{of} = tensor.empty({size}) : {operand.type('tensor')}")
        text = variant.op(of, "tensor")
        body.append(text.replace("moe.", f"%out{of}:{len(written)} = moe.", 1))
        results += [f"%out{of}#0", f"%out{of}#1"]
        types += [o.type("tensor") for o in variant.outputs()]
    text = (f"func.func @all({', '.join(arguments)}) -> ({', '.join(types)}) {{\n"
            + "\n".join(body) + f"\nreturn {', '.join(results)} : {', '.join(types)}\n}}")
    return artifact.compile_layer(text, "all", ("--lowering=general",))


def bits(array: np.ndarray) -> np.ndarray:
    """What tells NaN from NaN and −0 from 0; all NaN are one."""
    if array.dtype == np.float32:
        return np.where(np.isnan(array), np.uint32(0x7FC00000), array.view(np.uint32))
    return array


def check(variants: list[Variant], moe_opt: str) -> None:
    """Runs all variants with each number of tokens."""
    lowered = lower(moe_opt, "\n".join(v.kernel_text() for v in variants))
    kernels = emulation.compile_kernels(emulation.kernels_of(lowered))
    reference_of_all = general(variants)
    for number, tokens in enumerate(variants[0].tokens):
        seed = number + 1
        generator = np.random.default_rng(seed)
        data = [v.draw(generator, tokens) for v in variants]
        outputs = [[o.empty(tokens) for o in v.outputs()] for v in variants]
        views = [artifact.view(d[o.name], o.kind) for v, d in zip(variants, data) for o in v.inputs()]
        views += [artifact.view(a, o.kind)
                  for v, made in zip(variants, outputs) for o, a in zip(v.outputs(), made)]
        reference_of_all(*views)
        for variant, own, wanted in zip(variants, data, outputs):
            got = variant.launch(kernels, own, tokens, seed)
            for what, have, want in zip(("weights", "ids"), got, wanted):
                if not np.array_equal(bits(have), bits(want)):
                    t = np.argwhere((bits(have) != bits(want)).any(axis=1))[0, 0]
                    sys.exit(f"error: {variant.name}, token {t} of {tokens}: {what} are "
                             f"{have[t]}, want {want[t]}")
    for variant in variants:
        print(f"{variant.name}: ok")


def within_kernel(suffix: str, damage: Damage) -> Damage:
    """What `damage` does, to the kernel whose name ends so alone."""
    def of(text: str) -> str:
        start = text.index(f"_{suffix}(")
        end = text.index("llvm.return", start)
        return text[:start] + damage(text[start:end]) + text[end:]
    return of


# A variant, and what is done to its kernels.
MUTANTS = {
    "ties go to the higher id": ("olmoe", lambda t: t.replace("redux.sync  min", "redux.sync  max")),
    "sums of lanes in another order": ("olmoe", each("nvvm.shfl.sync", "bfly", "down")),
    "NaN is the largest": ("softmax", each('llvm.fcmp "uno"', "uno", "_false")),
    "selected experts stay": ("olmoe", each("llvm.mlir.constant(-2147483648", "-2147483648", "5")),
    "groups that are not left out": ("deepseek-v3", nth("llvm.shl", -1, swap(
        r"llvm.shl .*, .* : i32", "llvm.mlir.constant(-1 : i32) : i32"))),
    "tokens that are passed over": ("olmoe", nth("sreg.nctaid.x", 0, swap(
        r"nvvm.read.ptx.sreg.nctaid.x : i32", "llvm.mlir.constant(7 : i32) : i32"))),
    "logits of tokens beyond the last": ("plain", nth("llvm.intr.smin", 3, swap(
        r"llvm.intr.smin\((%\w+), .*\) : .*", r"llvm.or \1, \1 : i32"))),
    "sums of lanes that are not added": ("plain", nth("nvvm.shfl.sync", 0, constant(
        0, r"(bfly %\w+, %\w+, )"))),
    "a product that is left out": ("plain", nth("llvm.intr.fma", 3, swap(
        r"llvm.intr.fma\(%\w+, (%\w+), .*", r"llvm.fadd \1, \1 : f32"))),
    "ids that are not mapped": ("id-map", within_kernel(
        "route_select", nth("!llvm.ptr<1> -> i32", -1, swap(
            r"llvm.load .*", "llvm.mlir.constant(1 : i32) : i32")))),
}


def check_mutants(moe_opt: str) -> None:
    """Fails if a damaged kernel passes for a good one."""
    survivors = []
    for name, (of, damage) in MUTANTS.items():
        variant = next(v for v in GATES + ROUTES if v.name == of)
        try:
            check_damaged(variant, moe_opt, damage, name)
            survivors.append(name)
        except (emulation.EmulationError, SystemExit) as found:
            print(f"{name}: found, {str(found).splitlines()[0]}", flush=True)
    if survivors:
        sys.exit(f"error: not found: {survivors}")


def check_damaged(variant: Variant, moe_opt: str, damage: Damage, name: str) -> None:
    """The kernel with `damage` against that without."""
    kernel = emulation.kernels_of(lower(moe_opt, variant.kernel_text()))
    damaged = damage(kernel)
    if damaged == kernel:
        print(f"error: '{name}' changes nothing")
        return
    good, bad = emulation.compile_kernels(kernel), emulation.compile_kernels(damaged)
    tokens = 23 if isinstance(variant, Gate) else 7
    data = variant.draw(np.random.default_rng(1), tokens)
    wanted = variant.launch(good, data, tokens, 1)
    for have, want in zip(variant.launch(bad, data, tokens, 1), wanted):
        if not np.array_equal(bits(have), bits(want)):
            sys.exit("other weights or ids")


def main() -> None:
    """Checks the variants asked for."""
    moe_opt, what, *names = sys.argv[1:]
    if what == "mutants":
        return check_mutants(moe_opt)
    variants = [v for v in {"gates": GATES, "routes": ROUTES}[what]
                if not names or v.name.startswith(tuple(names))]
    if not variants:
        sys.exit(f"error: no variant is called {names}")
    check(variants, moe_opt)


if __name__ == "__main__":
    main()
