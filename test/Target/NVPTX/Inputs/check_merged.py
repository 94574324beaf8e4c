"""Runs layers of few tokens whose launches are one kernel (moe-merge-launches) under emulation.

usage: check_merged.py MOE_OPT [NAME…]      (all layers, or those whose name starts so)
       check_merged.py MOE_OPT --mutants    damaged hand-offs, each of which must be found out

A layer is lowered with one launch and with several. All blocks of the one run at the same time, in
25 orders of threads, several grids, and many calls on one scratch memory, which is never cleared
and holds anything at first; each second call has the ticket of the one before, as a graph that is
replayed. Results are those of the several launches, bit for bit, and every access of global memory
that the hand-off does not order is an error. Prints a line a layer.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np

from check_kernels import emulation, encode

SEEDS = range(1, 26)
RESIDENT = 8


@dataclasses.dataclass
class Layer:
    """Router, gate, SwiGLU experts and combine; T, E, k, H, I are static."""

    name: str
    tokens: int = 4
    experts: int = 8
    k: int = 2
    hidden: int = 64
    inner: int = 96
    chip: str = "sm_80"

    def text(self, merged: bool) -> str:
        """The layer, at graph level."""
        t, e, k, h, i = self.tokens, self.experts, self.k, self.hidden, self.inner
        rows = t * k
        maps = ("indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, "
                "affine_map<(m, n, k) -> (m, n)>]")

        def matmul(name: str, x: str, xt: str, w: str, wt: str, out: str, size: str = "") -> str:
            return (f"%{name}_empty = tensor.empty({size}) : {out}\n"
                    f"%{name}_zero = linalg.fill ins(%zero : f32) outs(%{name}_empty : {out}) -> {out}\n"
                    f"%{name} = linalg.matmul {maps} ins({x}, {w} : {xt}, {wt}) "
                    f"outs(%{name}_zero : {out}) -> {out}\n")

        return f"""
func.func @layer(%x: tensor<{t}x{h}xbf16>, %router: tensor<{e}x{h}xbf16>, %gate: tensor<{e}x{i}x{h}xbf16>,
    %up: tensor<{e}x{i}x{h}xbf16>, %down: tensor<{e}x{h}x{i}xbf16>) -> tensor<{t}x{h}xbf16>
    attributes {{moe.merge_launches = {str(merged).lower()}}} {{
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  {matmul("logits", "%x", f"tensor<{t}x{h}xbf16>", "%router", f"tensor<{e}x{h}xbf16>", f"tensor<{t}x{e}xf32>")}
  %weights_empty = tensor.empty() : tensor<{t}x{k}xf32>
  %ids_empty = tensor.empty() : tensor<{t}x{k}xi32>
  %weights, %ids = moe.gate score(softmax) renormalize<> ins(%logits : tensor<{t}x{e}xf32>)
      outs(%weights_empty, %ids_empty : tensor<{t}x{k}xf32>, tensor<{t}x{k}xi32>)
  %offsets_empty = tensor.empty() : tensor<{e + 1}xi32>
  %rows_empty = tensor.empty() : tensor<{rows}x{h}xbf16>
  %offsets, %slots, %rows = moe.dispatch ids(%ids : tensor<{t}x{k}xi32>) tokens(%x : tensor<{t}x{h}xbf16>)
      outs(%offsets_empty, %ids_empty, %rows_empty : tensor<{e + 1}xi32>, tensor<{t}x{k}xi32>, tensor<{rows}x{h}xbf16>)
  %results = moe.expert offsets(%offsets : tensor<{e + 1}xi32>) rows(%rows : tensor<{rows}x{h}xbf16>)
      params(%gate, %up, %down : tensor<{e}x{i}x{h}xbf16>, tensor<{e}x{i}x{h}xbf16>, tensor<{e}x{h}x{i}xbf16>)
      outs(%rows_empty : tensor<{rows}x{h}xbf16>) {{
  ^bb0(%expert: index, %xe: tensor<?x{h}xbf16>, %eg: tensor<{i}x{h}xbf16>, %eu: tensor<{i}x{h}xbf16>,
       %ed: tensor<{h}x{i}xbf16>):
    %c0 = arith.constant 0 : index
    %n = tensor.dim %xe, %c0 : tensor<?x{h}xbf16>
    {matmul("g", "%xe", f"tensor<?x{h}xbf16>", "%eg", f"tensor<{i}x{h}xbf16>", f"tensor<?x{i}xf32>", "%n")}
    {matmul("u", "%xe", f"tensor<?x{h}xbf16>", "%eu", f"tensor<{i}x{h}xbf16>", f"tensor<?x{i}xf32>", "%n")}
    %p_empty = tensor.empty(%n) : tensor<?x{i}xbf16>
    %p = linalg.map ins(%g, %u : tensor<?x{i}xf32>, tensor<?x{i}xf32>) outs(%p_empty : tensor<?x{i}xbf16>)
      (%v: f32, %w: f32, %init: bf16) {{
        %minus = arith.negf %v : f32
        %exp = math.exp %minus : f32
        %q = arith.addf %one, %exp : f32
        %silu = arith.divf %v, %q : f32
        %product = arith.mulf %silu, %w : f32
        %r = arith.truncf %product : f32 to bf16
        linalg.yield %r : bf16
      }}
    {matmul("d", "%p", f"tensor<?x{i}xbf16>", "%ed", f"tensor<{h}x{i}xbf16>", f"tensor<?x{h}xf32>", "%n")}
    %s = arith.truncf %d : tensor<?x{h}xf32> to tensor<?x{h}xbf16>
    moe.yield %s : tensor<?x{h}xbf16>
  }}
  %y_empty = tensor.empty() : tensor<{t}x{h}xbf16>
  %y = moe.combine rows(%results : tensor<{rows}x{h}xbf16>) slots(%slots : tensor<{t}x{k}xi32>)
      weights(%weights : tensor<{t}x{k}xf32>) outs(%y_empty : tensor<{t}x{h}xbf16>)
  return %y : tensor<{t}x{h}xbf16>
}}"""

    def draw(self, seed: int) -> list[np.ndarray]:
        """Arguments and the result's memory."""
        generator = np.random.default_rng(seed)
        t, e, h, i = self.tokens, self.experts, self.hidden, self.inner
        shapes = [(t, h), (e, h), (e, i, h), (e, i, h), (e, h, i)]
        arrays = [encode(generator.normal(0, 2 * s[-1]**-0.5, s), "bf16") for s in shapes]
        return [*arrays, np.full((t, h), 0xffff, np.uint16)]


@dataclasses.dataclass
class Special(Layer):
    """Rows are multiplied by their weights first; gate and up alternate in one weight E×H×2I."""

    def text(self, merged: bool) -> str:
        """The layer, with other rows and weights."""
        t, e, k, h, i = self.tokens, self.experts, self.k, self.hidden, self.inner
        both, rows = f"tensor<{e}x{h}x{2 * i}xbf16>", f"tensor<{t * k}x{h}xbf16>"
        stacked, of_rows = f"tensor<{e}x{i}x{h}xbf16>", f"tensor<{t * k}xf32>"
        transposed = "affine_map<(m, n, k) -> (k, n)>"
        replaced = {
            f"%gate: {stacked},\n    %up: {stacked}": f"%gate_up: {both}",
            "(%gate, %up, %down :": "(%gate_up, %down :", f": {stacked}, {stacked},": f": {both},",
            "%slots, %rows = moe.dispatch": "%slots, %rows, %row_weights = moe.dispatch",
            f"tokens(%x : tensor<{t}x{h}xbf16>)":
                f"tokens(%x : tensor<{t}x{h}xbf16>) choices(%weights : tensor<{t}x{k}xf32>)",
            f"outs(%offsets_empty, %ids_empty, %rows_empty : tensor<{e + 1}xi32>, tensor<{t}x{k}xi32>, {rows})":
                f"outs(%offsets_empty, %ids_empty, %rows_empty, %row_weights_empty : tensor<{e + 1}xi32>, "
                f"tensor<{t}x{k}xi32>, {rows}, {of_rows})",
            f"%rows_empty = tensor.empty() : {rows}":
                f"%rows_empty = tensor.empty() : {rows}\n%row_weights_empty = tensor.empty() : {of_rows}",
            f"rows(%rows : {rows})\n      params": f"rows(%rows, %row_weights : {rows}, {of_rows})\n      params",
            f"%xe: tensor<?x{h}xbf16>, %eg: tensor<{i}x{h}xbf16>, %eu: tensor<{i}x{h}xbf16>":
                f"%xe: tensor<?x{h}xbf16>, %we: tensor<?xf32>, %both: tensor<{h}x{2 * i}xbf16>",
            f"%n = tensor.dim %xe, %c0 : tensor<?x{h}xbf16>": f"""
    %n = tensor.dim %xe, %c0 : tensor<?x{h}xbf16>
    %eg = tensor.extract_slice %both[0, 0] [{h}, {i}] [1, 2] : tensor<{h}x{2 * i}xbf16> to tensor<{h}x{i}xbf16>
    %eu = tensor.extract_slice %both[0, 1] [{h}, {i}] [1, 2] : tensor<{h}x{2 * i}xbf16> to tensor<{h}x{i}xbf16>
    %xw_empty = tensor.empty(%n) : tensor<?x{h}xbf16>
    %xw = linalg.generic {{indexing_maps = [affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m)>,
        affine_map<(m, n) -> (m, n)>], iterator_types = ["parallel", "parallel"]}}
        ins(%xe, %we : tensor<?x{h}xbf16>, tensor<?xf32>) outs(%xw_empty : tensor<?x{h}xbf16>) {{
    ^bb0(%v: bf16, %w: f32, %init: bf16):
      %wide = arith.extf %v : bf16 to f32
      %product = arith.mulf %wide, %w : f32
      %rounded = arith.truncf %product : f32 to bf16
      linalg.yield %rounded : bf16
    }} -> tensor<?x{h}xbf16>""",
        }
        text = super().text(merged)
        for name, weight in ("g", "%eg"), ("u", "%eu"):
            line = next(v for v in text.splitlines() if f"%{name} = linalg.matmul" in v)
            replaced[line] = (line.replace("affine_map<(m, n, k) -> (n, k)>", transposed)
                              .replace(f"ins(%xe, {weight} : tensor<?x{h}xbf16>, tensor<{i}x{h}xbf16>)",
                                       f"ins(%xw, {weight} : tensor<?x{h}xbf16>, tensor<{h}x{i}xbf16>)"))
        for old, new in replaced.items():
            if text.count(old) != 1:
                sys.exit(f"error: {self.name}: '{old}' is there {text.count(old)} times")
            text = text.replace(old, new)
        return text

    def draw(self, seed: int) -> list[np.ndarray]:
        """Gate and up as one array: any values do."""
        x, router, gate, up, down, y = super().draw(seed)
        both = np.concatenate([gate, up], axis=1).swapaxes(1, 2)
        return [x, router, np.ascontiguousarray(both), down, y]


@dataclasses.dataclass
class Pair(Layer):
    """One grouped matmul and a combine: one hand-off. `config` pins the tile and its warps."""

    config: tuple[int, ...] = ()

    def text(self, merged: bool) -> str:
        """The two, with a plan from elsewhere."""
        t, e, k, h, i = self.tokens, self.experts, self.k, self.hidden, self.inner
        rows = t * k
        tile = "tile_rows = {}, tile_columns = {}, tile_sum = 64, warp_rows = {}, warp_columns = {}, stages = {}"
        pinned = (f"attributes {{moe.lowering_config = #moe.gpu_matmul<{tile.format(*self.config)}>}}"
                  if self.config else "")
        return f"""
func.func @layer(%offsets: tensor<{e + 1}xi32>, %slots: tensor<{t}x{k}xi32>, %weights: tensor<{t}x{k}xf32>,
    %rows: tensor<{rows}x{i}xbf16>, %down: tensor<{e}x{h}x{i}xbf16>) -> tensor<{t}x{h}xbf16>
    attributes {{moe.merge_launches = {str(merged).lower()}}} {{
  %empty = tensor.empty() : tensor<{rows}x{h}xbf16>
  %d = moe.grouped_matmul offsets(%offsets : tensor<{e + 1}xi32>)
      products(%rows[m, k] * %down[e, n, k] : tensor<{rows}x{i}xbf16>, tensor<{e}x{h}x{i}xbf16>)
      outs(%empty : tensor<{rows}x{h}xbf16>) {pinned} {{
  ^bb0(%sum: f32):
    %r = arith.truncf %sum : f32 to bf16
    moe.yield %r : bf16
  }}
  %y_empty = tensor.empty() : tensor<{t}x{h}xbf16>
  %y = moe.combine rows(%d : tensor<{rows}x{h}xbf16>) slots(%slots : tensor<{t}x{k}xi32>)
      weights(%weights : tensor<{t}x{k}xf32>) outs(%y_empty : tensor<{t}x{h}xbf16>)
  return %y : tensor<{t}x{h}xbf16>
}}"""

    def draw(self, seed: int) -> list[np.ndarray]:
        """Rows are the choices in any order, spread over the experts at random."""
        generator = np.random.default_rng(seed)
        t, k, rows = self.tokens, self.k, self.tokens * self.k
        offsets = np.sort(generator.integers(0, rows + 1, self.experts + 1)).astype(np.int32)
        offsets[0], offsets[-1] = 0, rows
        arrays = super().draw(seed)
        h = encode(generator.normal(0, 1, (rows, self.inner)), "bf16")
        slots = generator.permutation(rows).astype(np.int32).reshape(t, k)
        weights = generator.random((t, k), np.float32)
        return [offsets, slots, weights, h, arrays[4], arrays[5]]


LAYERS = [
    Layer("four-tokens"),
    Layer("one-token", tokens=1, k=4, hidden=72, inner=40),
    Layer("sixteen-tokens", tokens=16, experts=3, k=2, hidden=64, inner=64),
    Layer("wgmma", tokens=5, chip="sm_90a", inner=72),
    Special("special"),
    Special("special-wgmma", tokens=5, chip="sm_90a", inner=72),
    Pair("two-phases"),
    Pair("fewer-threads", tokens=3, hidden=40, config=(16, 32, 1, 2, 2)),
    Pair("more-threads", tokens=7, hidden=72, config=(32, 64, 2, 4, 2)),
]

CONSTANT = re.compile(r"(%\w+) = arith.constant (-?\d+) : (\w+)")
VIEW = re.compile(r"(%\w+) = memref.view (%\w+)\[(%\w+)\]\[\]")
COPY = re.compile(r"(%\w+) = (?:memref.extract_aligned_pointer_as_index|arith.index_cast|"
                  r"llvm.inttoptr|memref.cast) (%\w+) ")
STRIDED = re.compile(r"(%\w+) = memref.reinterpret_cast (%\w+) to offset: \[0\], "
                     r"sizes: \[([^]]*)\], strides: \[([^]]*)\]")
MAP = re.compile(r"(%\w+) = nvgpu.tma.create.descriptor (%\w+) box\[([^]]*)\].*swizzle = swizzle_(\d+)b")
LAUNCH = re.compile(r"gpu.launch_func +@\w+::@(\w+) blocks in \((%\w+),.*threads in \((%\w+),.*"
                    r"dynamic_shared_memory_size (%\w+) args\((.*?)\)(.*)")


def numbers(text: str) -> list[int]:
    """Of a list."""
    return [int(number) for number in text.split(", ")]


class Program:
    """A layer lowered: its kernels, and what the host does."""

    def __init__(self, moe_opt: str, layer: Layer, merged: bool,
                 damage: Callable[[str], str] = lambda text: text):
        passes = f"moe-prepare-entry,moe-gpu-lowering{{chip={layer.chip}}}"
        done = subprocess.run([moe_opt, f"--pass-pipeline=builtin.module({passes})"], text=True,
                              input=layer.text(merged), capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"error: {layer.name}: {done.stderr}")
        text = done.stdout
        begin = text.index("  gpu.module @")
        self.host = text[text.index("func.func @layer("):begin]
        self.host = self.host[:self.host.index("\n  }")]
        kernels = emulation.kernels_of(text)
        damaged = damage(kernels)
        if damage.__name__ != "<lambda>" and damaged == kernels:
            sys.exit("error: a mutant that changes nothing")
        self.kernels = emulation.compile_kernels(damaged)
        self.workspace = int(re.search(r"constant (\d+) : index\s+return",
                                       text[text.index("@layer.workspace()"):begin]).group(1))

    def launches(self) -> list[tuple[str, ...]]:
        """Kernel, blocks, threads, shared memory, arguments, attributes."""
        return LAUNCH.findall(self.host)

    def run(self, arrays: list[np.ndarray], scratch: np.ndarray, *, seed: int = 1,
            ticket: int = 0, grid: int = RESIDENT) -> None:
        """A call of the layer; a cooperative launch has `grid` blocks at most."""
        memory = [*arrays, scratch]
        bytes_of = [a.reshape(-1).view(np.uint8) for a in memory]
        values: dict[str, object] = {f"%arg{i}": (i, 0) for i in range(len(memory))}
        kinds = {"i32": np.int32, "i64": np.int64, "index": np.int64}
        for name, number, kind in CONSTANT.findall(self.host):
            values[name] = kinds[kind](number)
        for line in self.host.splitlines():
            if found := VIEW.search(line):
                values[found[1]] = (values[found[2]][0], int(values[found[3]]))
            elif found := STRIDED.search(line):
                values[found[1]] = (values[found[2]], numbers(found[3]), numbers(found[4]))
            elif found := MAP.search(line):
                (buffer, offset), sizes, strides = values[found[2]]
                values[found[1]] = emulation.encode_tensor_map(
                    bytes_of[buffer][offset:], "bf16", 0, sizes, strides,
                    [int(values[b]) for b in found[3].split(", ")], int(found[4]))
            elif found := COPY.search(line):
                values[found[1]] = values[found[2]]
        for kernel, blocks, threads, shared, args, attributes in self.launches():
            passed = [values[a] for a in re.findall(r"(%\w+) :", args)]
            passed = [bytes_of[v[0]][v[1]:] if isinstance(v, tuple) else v for v in passed]
            count, cooperative = int(values[blocks]), "moe.cooperative" in attributes
            if cooperative:
                count, passed[-1] = min(count, grid), np.int64(ticket)
            self.kernels.launch(kernel, count, int(values[threads]), passed, seed=seed,
                                shared=int(values[shared]), resident=RESIDENT,
                                cooperative=cooperative, buffers=bytes_of)


def new_scratch(size: int, seed: int) -> np.ndarray:
    """Memory that holds anything, aligned to 64 bytes."""
    memory = np.random.default_rng(seed).integers(0, 256, size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin:begin + size]


def ticket_of(seed: int) -> int:
    """As the run time draws them: 64 bits."""
    return int(np.random.default_rng(seed).integers(-2**63, 2**63 - 1))


def check(moe_opt: str, layer: Layer) -> None:
    """Compares one launch with several."""
    one = Program(moe_opt, layer, merged=True)
    if len(one.launches()) != 1:
        sys.exit(f"error: {layer.name}: {len(one.launches())} launches")
    draws = [layer.draw(i) for i in range(3)]
    expected = run_several(moe_opt, layer, draws)
    scratch, calls = new_scratch(one.workspace, 0), 0
    for seed in SEEDS:
        # The first layer makes three calls in each order, the others go on with their memory.
        if layer is LAYERS[0]:
            scratch = new_scratch(one.workspace, seed)
        for draw in range(3) if layer is LAYERS[0] else [seed % 3]:
            arrays, grid = draws[draw], RESIDENT if seed % 8 == 0 else (seed + draw) % 4 + 1
            arrays[-1][:] = 0xffff
            # Two calls in a row are one that is replayed.
            one.run(arrays, scratch, seed=seed, ticket=ticket_of(calls // 2), grid=grid)
            calls += 1
            if not np.array_equal(arrays[-1], expected[draw]):
                sys.exit(f"error: {layer.name}, seed {seed}, draw {draw}: other results")
    print(f"{layer.name}: ok, one launch")


def each(line: str, old: str, new: str) -> Callable[[str], str]:
    """The kernel with `new` for `old` in the lines that have `line`."""
    def damage(text: str) -> str:
        return "\n".join(t.replace(old, new) if line in t else t for t in text.split("\n"))
    return damage


def no_wait(text: str) -> str:
    """Arrives, and goes on at once: what is seen is compared with itself."""
    seen = set(re.findall(r"(%\w+) = llvm.load .* atomic", text))
    return re.sub(r'llvm.icmp "ne" (%\w+), %\w+ : i64',
                  lambda m: f'llvm.icmp "ne" {m[1]}, {m[1]} : i64' if m[1] in seen else m[0], text)


def same_number(text: str) -> str:
    """All barriers of a launch are the first one."""
    ticket = re.search(r"(%\w+): i64\) attributes", text)[1]
    first = re.search(rf"llvm.add {ticket}, (%\w+)", text)[1]
    return re.sub(rf"llvm.add {ticket}, %\w+", f"llvm.add {ticket}, {first}", text)


def no_ticket(text: str) -> str:
    """Barriers are numbered from 1 in every launch."""
    ticket = re.search(r"(%\w+): i64\) attributes", text)[1]
    zero = "      %no_ticket = llvm.mlir.constant(0 : i64) : i64\n"
    head, body = text[:text.index("{\n", text.index(ticket)) + 2], text[text.index("{\n", text.index(ticket)) + 2:]
    return head + zero + body.replace(f"{ticket},", "%no_ticket,")


def no_reset(text: str) -> str:
    """Flags stay as the last barrier left them."""
    return "\n".join(t for t in text.split("\n") if not re.search(r"llvm.store %\w+, %\w+ : i64,", t))


def without_barrier(after: str, direction: int) -> Callable[[str], str]:
    """Without the barrier of a block that is next to the first line that has `after`."""
    def damage(text: str) -> str:
        lines = text.split("\n")
        at = next(i for i, line in enumerate(lines) if after in line)
        while "nvvm.barrier0" not in lines[at]:
            at += direction
        return "\n".join(lines[:at] + lines[at + 1:])
    return damage


def stores_late(text: str) -> str:
    """Thread 0 arrives while others of its block still store."""
    ticket = re.search(r"(%\w+): i64\) attributes", text)[1]
    return re.sub(rf"(llvm.add {ticket}, .*\n) *nvvm.barrier0\n", r"\1", text, count=1)


def second(line: str, damage: Callable[[str], str]) -> Callable[[str], str]:
    """Damages what comes after the first line that has `line`."""
    def later(text: str) -> str:
        at = text.index("\n", text.index(line))
        return text[:at] + damage(text[at:])
    return later


# A layer, and what is done to its kernel. The second call has the ticket of the first.
MUTANTS = {
    "blocks do not wait": ("four-tokens", no_wait),
    "thread 0 arrives before others have stored": ("four-tokens", stores_late),
    "block 0 lets others go one by one": ("four-tokens", without_barrier(" release ", -1)),
    "threads do not wait for thread 0": (
        "two-phases", second(" acquire ", without_barrier(" acquire ", 1))),
    "all barriers have one number": ("four-tokens", same_number),
    "flags are not reset, and a graph is replayed": ("two-phases", no_reset),
    "no ticket, and scratch has small numbers": ("two-phases", no_ticket),
    "arrivals are relaxed": ("four-tokens", each("llvm.store", " release ", " monotonic ")),
    "waits are relaxed": ("four-tokens", each("llvm.load", " acquire ", " monotonic ")),
    "order within a block only": ("four-tokens", each("atomic", '"device"', '"block"')),
}


def find_out(one: Program, layer: Layer, expected: list[np.ndarray], seed: int) -> str:
    """Runs a damaged layer; what is wrong, or nothing."""
    scratch = new_scratch(one.workspace, seed)
    scratch.view(np.int64)[:] = 1
    for call, result in enumerate(expected):
        arrays = layer.draw(call)
        try:
            one.run(arrays, scratch, seed=seed, ticket=ticket_of(seed), grid=4)
        except emulation.EmulationError as error:
            return re.sub(r", at byte.*", "", str(error).splitlines()[0])
        if not np.array_equal(arrays[-1], result):
            return "other results"
    return ""


def run_several(moe_opt: str, layer: Layer, draws: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The results of several launches."""
    several = Program(moe_opt, layer, merged=False)
    for arrays in draws:
        several.run(arrays, new_scratch(several.workspace, 0))
    return [arrays[-1].copy() for arrays in draws]


def check_mutants(moe_opt: str) -> None:
    """Fails if a damaged hand-off passes for a good one, in any of some orders."""
    expected = {}
    for name, (of, damage) in MUTANTS.items():
        layer = next(v for v in LAYERS if v.name == of)
        if of not in expected:
            expected[of] = run_several(moe_opt, layer, [layer.draw(i) for i in range(2)])
        one = Program(moe_opt, layer, True, damage)
        found = [find_out(one, layer, expected[of], seed) for seed in range(1, 11)]
        if not all(found):
            sys.exit(f"error: '{name}' is not found with seed {found.index('') + 1}")
        print(f"found: {name}: {found[0]}")


def main() -> None:
    """Checks layers, or mutants."""
    moe_opt, *names = sys.argv[1:]
    if names == ["--mutants"]:
        return check_mutants(moe_opt)
    for layer in LAYERS:
        if not names or any(layer.name.startswith(n) for n in names):
            check(moe_opt, layer)


if __name__ == "__main__":
    main()
