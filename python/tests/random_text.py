"""The text of a random layer: `write` fills in what follows from its choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from random_body import Weight

if TYPE_CHECKING:
    from random_layers import Layer

HEADER = """\
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
    weights = tensor(p.tokens, p.k, kind="f32")
    name = "%weights" if p.weight_scale == 1 else "%gated"
    lines = [f"{name}, %ids = moe.gate {options}", f"    {ins}",
             f"    outs(%w_init, %i_init : {weights}, {tensor(p.tokens, p.k, kind='i32')})"]
    if p.weight_scale != 1:
        lines += [f"%factor = arith.constant {p.weight_scale:e} : f32",
                  f"%factors = linalg.fill ins(%factor : f32) outs(%w_init : {weights}) "
                  f"-> {weights}", f"%weights = arith.mulf %gated, %factors : {weights}"]
    return lines


def _router_text(p: Layer) -> list[str]:
    """%logits, in f32."""
    lines, x, wr = [], "%x", "%wr"
    wide, weight = tensor(p.tokens, p.hidden, kind="f32"), _router_type(p, "f32")
    if p.kind != "f32":
        x, wr = "%x_wide", "%wr_wide"
        lines = [f"{x} = arith.extf %x : {tensor(p.tokens, p.hidden, kind=p.kind)} to {wide}",
                 f"{wr} = arith.extf %wr : {_router_type(p, p.kind)} to {weight}"]
    logits = tensor(p.tokens, p.experts, kind="f32")
    sizes = ", ".join(size for size in ("%t" if isinstance(p.tokens, str) else 0,
                                        "%e" if isinstance(p.experts, str) else 0) if size)
    maps = f"[#mk, {'#kn' if p.router_by_rows else '#nk'}, #mn]"
    lines += [f"%l_init = tensor.empty({sizes}) : {logits}", "%l_zero = arith.constant 0.0 : f32",
              f"%l_zeros = linalg.fill ins(%l_zero : f32) outs(%l_init : {logits}) -> {logits}",
              f"%l0 = linalg.matmul indexing_maps = {maps} "
              f"ins({x}, {wr} : {wide}, {weight}) outs(%l_zeros : {logits}) -> {logits}"]
    last = 0

    def then(op: str, type_: str) -> str:
        """A further line, in terms of the last result; returns the name of its own."""
        nonlocal last
        last += 1
        lines.append(f"%l{last} = {op.replace('LAST', f'%l{last - 1}')} : {type_}")
        return f"%l{last}"
    if p.router_bias:
        lines += [f"%b_init = tensor.empty({sizes}) : {logits}",
                  f"%b_rows = linalg.broadcast ins(%router_bias : {tensor(p.experts, kind='f32')}) "
                  f"outs(%b_init : {logits}) dimensions = [0]"]
        then("arith.addf LAST, %b_rows", logits)
    if p.router_cap:
        lines += [f"%cap = arith.constant {p.router_cap:e} : f32",
                  f"%c_init = tensor.empty({sizes}) : {logits}",
                  f"%caps = linalg.fill ins(%cap : f32) outs(%c_init : {logits}) -> {logits}"]
        for op in ("arith.divf LAST, %caps", "math.tanh LAST", "arith.mulf LAST, %caps"):
            then(op, logits)
    if p.router_narrow:
        narrow = tensor(p.tokens, p.experts, kind="bf16")
        then("arith.truncf LAST", f"{logits} to {narrow}")
        then("arith.extf LAST", f"{narrow} to {logits}")
    return [line.replace(f"%l{last} ", "%logits ") for line in lines]


def _router_type(p: Layer, kind: str) -> str:
    return tensor(*((p.hidden, p.experts) if p.router_by_rows else (p.experts, p.hidden)),
                  kind=kind)


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
    if p.base == "x":
        base = f" base(%x : {tensor(p.tokens, p.hidden, kind=p.kind)})"
    elif p.base:
        base = f" base(%base : {tensor(p.tokens, p.yielded.width, kind='f32')})"
    weights = tensor(p.tokens, p.k, kind="f32")
    return [f"%y = moe.combine rows(%done : {tensor('%m', p.yielded.width, kind=p.kind)})",
            f"    slots(%slots : {tensor(p.tokens, p.k, kind='i32')}) weights(%weights : {weights})"
            + base, f"    outs(%s_init : {y})"]


def _shared_text(p: Layer) -> list[str]:
    """%base, from all tokens."""
    base, size = tensor(p.tokens, p.yielded.width, kind="f32"), ""
    if isinstance(p.tokens, str):
        size = "%t"
    return [f"%base_init = tensor.empty({size}) : {base}", "%base_zero = arith.constant 0.0 : f32",
            f"%base_zeros = linalg.fill ins(%base_zero : f32) outs(%base_init : {base}) -> {base}",
            f"%base = linalg.matmul ins(%x, %ws : {tensor(p.tokens, p.hidden, kind=p.kind)}, "
            f"{tensor(p.hidden, p.yielded.width, kind=p.kind)}) outs(%base_zeros : {base}) "
            f"-> {base}"]


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
        at, name, type_ = 0, "all_w0", _slices(p, p.body.weights[0]) if p.body.weights else ""
        if p.router:
            at, name, type_ = int(p.router_by_rows), "wr", _router_type(p, p.kind)
        elif p.score:
            at, name, type_ = 1, "logits", tensor(p.tokens, p.experts, kind="f32")
        lines += [f"%ce = arith.constant {at} : index",
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
    elif p.router:
        listed.append(Argument("wr", _router_type(p, p.kind), p.kind))
    else:
        listed.append(Argument("logits", tensor(p.tokens, p.experts, kind="f32"), "f32"))
    optional = [(p.bias, "bias", tensor(p.experts, kind="f32"), "f32"),
                (p.router_bias, "router_bias", tensor(p.experts, kind="f32"), "f32"),
                (p.mix, "mix", tensor(p.tokens, p.experts, kind="f32"), "f32"),
                (p.capacity is not None, "capacity", "tensor<i64>", "i64"),
                (p.tokens_per_group is not None, "group", "tensor<i64>", "i64"),
                (p.priority, "priority", of_choices, "f32"),
                (p.row_weight, "row_weights", tensor(p.tokens, p.k, kind=p.kind), p.kind)]
    listed += [Argument(*rest) for present, *rest in optional if present]
    listed += [Argument(w.name[1:], _slices(p, w), w.kind) for w in p.body.weights]
    if p.base == "shared":
        listed.append(Argument("ws", tensor(p.hidden, p.yielded.width, kind=p.kind), p.kind))
    if p.base == "argument":
        listed.append(Argument("base", tensor(p.tokens, p.yielded.width, kind="f32"), "f32"))
    if p.column_sums:
        sums = tensor(p.experts, p.yielded.width, kind=p.kind)
        listed.append(Argument("sums_init", sums, p.kind))
    return listed


def write(p: Layer) -> None:
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
    lines = [*_sizes_text(p), *(_router_text(p) if p.router else []),
             *(_gate_text(p) if p.score is not None else []), *_dispatch_text(p),
             *_expert_text(p), *(_shared_text(p) if p.base == "shared" else []),
             *_combine_text(p),
             f"return {', '.join('%' + n for n, _, _ in p.results)} : "
             f"{', '.join(t for _, t, _ in p.results)}"]
    results = ", ".join(type_ for _, type_, _ in p.results)
    p.text = (HEADER + f"func.func @layer({arguments})\n    -> ({results}) {{\n"
              + "".join(f"  {line}\n" for line in lines) + "}\n")
