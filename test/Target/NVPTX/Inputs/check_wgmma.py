"""Runs the kernels for sm_90a (TMA, mbarriers, wgmma) as check_kernels.py does those for sm_80.

usage: check_wgmma.py MOE_OPT [NAME…]      (all variants, or those whose name starts so)
       check_wgmma.py MOE_OPT --mutants    damaged kernels, each of which must be found out

Tensor maps are encoded from the host code next to the kernels, so that a wrong size, stride or box
there is a wrong result here. Prints a line a variant.
"""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np

import check_kernels
from check_kernels import Damage, Variant, constant, drop, each, emulation, nth, swap

VIEW = re.compile(r"(%\w+) = memref.reinterpret_cast %(\w+) to offset: \[(\d+)\], "
                  r"sizes: \[([^]]*)\], strides: \[([^]]*)\]")
CAST = re.compile(r"(%\w+) = memref.cast (%\w+) :")
MAP = re.compile(r"(%\w+) = nvgpu.tma.create.descriptor (%\w+) box\[([^]]*)\].*swizzle = (\w+),")
CONSTANT = re.compile(r"(%\w+) = arith.constant (\d+) : index")
ARGUMENTS = re.compile(r"gpu.launch_func.*@v_matmul .*args\((.*)\)")
# What is read by TMA: arguments of the function, and rows that a kernel before stores.
BUFFERS = {"arg2": "x", "alloc": "x", "arg3": "w"}


@dataclasses.dataclass
class Wgmma(Variant):
    """The configuration is rows, columns, groups, stages."""

    config: tuple[int, int, int, int] = (64, 64, 1, 3)
    swapped: bool = False

    def attribute(self) -> str:
        """How the op runs."""
        tile = "tile_rows = {}, tile_columns = {}, tile_sum = 64, groups = {}, stages = {}"
        return (f"#moe.gpu_wgmma<{tile.format(*self.config)}{', swapped = true' * self.swapped}"
                f"{', permuted = true' * self.permuted}>")

    def launch(self, kernels: emulation.Kernels, lowered: str, arrays: dict[str, np.ndarray],
               args: list[np.ndarray | np.generic], seed: int) -> None:
        """Runs the kernel as the host code says."""
        tile_rows, tile_columns, groups, stages = self.config
        maps = self.tensor_maps(lowered[:lowered.index("gpu.module ")], arrays)
        bound = self.bound(len(arrays["y"]), tile_rows, tile_columns)
        # What only tensor maps tell of is no parameter.
        mapped = [arrays["w"]] + [arrays["x"]] * (not self.gathered or self.permuted)
        args = [a for a in args if not any(a is m for m in mapped)]
        kernels.launch("v_matmul", self.grid or bound, 128 * (groups + 1), [*maps, *args], seed=seed,
                       buffers=mapped,
                       shared=stages * ((tile_rows + self.products() * tile_columns) * 128 + 16))

    def tensor_maps(self, host: str, arrays: dict[str, np.ndarray]) -> list[bytes]:
        """Those that the launch passes, in order."""
        constants = dict(CONSTANT.findall(host))
        views = {name: rest for name, *rest in VIEW.findall(host)}
        views |= {name: views[of] for name, of in CAST.findall(host) if of in views}
        maps = {}
        for name, view, box, swizzle in MAP.findall(host):
            memory, offset, sizes, strides = views[view]
            data = arrays[BUFFERS[memory]]
            # A size that is not constant is the number of rows, or of experts.
            numbers = [len(data) if s.startswith("%") else int(s) for s in sizes.split(", ")]
            maps[name] = emulation.encode_tensor_map(
                data, self.kind, int(offset), numbers, [int(s) for s in strides.split(", ")],
                [int(constants[b]) for b in box.split(", ")], int(re.sub(r"\D", "", swizzle) or 0))
        passed = [a.split(" : ")[0] for a in ARGUMENTS.search(host).group(1).split(", ") if " : " in a]
        return [maps[a] for a in passed if a in maps]


SOME = ((5, 0, 70, 1), (0, 0, 0, 0), (0, 90, 0, 0), (0, 0, 1, 0))
FEW = ((1, 0, 17, 3), (0, 0, 0, 2))
VARIANTS = [
    Wgmma("plain"),
    Wgmma("f16-f32", kind="f16", out="f32"),
    Wgmma("parts-of-tiles", n=72, k=200),
    Wgmma("odd-columns", n=33, out="f32"),
    Wgmma("one-step", k=8, n=16, config=(64, 16, 1, 2)),
    Wgmma("transposed", transposed=True, n=72, k=72, config=(64, 128, 1, 2)),
    Wgmma("transposed-f16", kind="f16", out="f16", transposed=True, gathered=True),
    Wgmma("gathered", gathered=True, k=328, config=(64, 64, 1, 4)),
    Wgmma("gathered-two-stages", gathered=True, k=192, config=(64, 64, 1, 2)),
    Wgmma("gated", gated=True, gathered=True, n=48, config=(64, 24, 1, 3)),
    Wgmma("gated-in-place", gated=True, n=40, config=(64, 32, 1, 3)),
    Wgmma("gated-transposed", gated=True, gathered=True, transposed=True),
    Wgmma("alternating", gated=True, alternating=(0, 1), gathered=True, transposed=True, n=36, k=72,
          config=(64, 32, 1, 3)),
    Wgmma("alternating-up-first", kind="f16", out="f16", gated=True, alternating=(1, 0),
          transposed=True, n=96, config=(128, 64, 2, 2), rows=((150, 0, 1, 30), (0, 0, 0, 0))),
    Wgmma("alternating-to-f32", gated=True, alternating=(1, 0), transposed=True, gathered=True,
          extras=True, out="f32", n=68, config=(64, 64, 1, 2)),
    Wgmma("alternating-128x128", gated=True, alternating=(0, 1), gathered=True, transposed=True,
          n=136, k=64, config=(128, 128, 2, 4), experts=2, rows=((129, 1), (0, 140)), schedules=3),
    Wgmma("alternating-few-blocks", grid=2, gated=True, alternating=(0, 1), transposed=True, n=104,
          k=72, config=(64, 32, 1, 3)),
    Wgmma("alternating-rows", gated=True, alternating=(1, 0), n=40, config=(64, 32, 1, 3)),
    Wgmma("permuted", permuted=True, gathered=True, k=328, config=(64, 64, 1, 4)),
    Wgmma("prologue", permuted=True, prologue="weights", gathered=True, gated=True, transposed=True,
          k=200),
    Wgmma("prologue-of-experts", permuted=True, prologue="scales", kind="f16", out="f32", k=72,
          grid=3),
    Wgmma("extras", extras=True, gathered=True, out="f32", n=40),
    Wgmma("two-fragments", config=(128, 40, 1, 2), n=40),
    Wgmma("two-groups", config=(128, 64, 2, 2), k=200, gated=True, rows=((150, 0, 1, 30),)),
    Wgmma("128x256", config=(128, 256, 2, 4), n=264, k=64, gathered=True, experts=2,
          rows=((129, 1),), schedules=3),
    Wgmma("many-experts", experts=70, dynamic_experts=True, config=(64, 32, 1, 2), n=32, k=64, grid=9,
          rows=(tuple((7 * e) % 5 for e in range(70)), (0,) * 69 + (3,))),
    Wgmma("few-blocks", grid=2, n=136, k=72),
    Wgmma("few-blocks-gathered", grid=2, n=136, k=72, gathered=True),
    Wgmma("swapped", swapped=True, config=(16, 64, 1, 3), n=72, rows=FEW),
    Wgmma("swapped-gathered", swapped=True, config=(8, 64, 1, 4), gathered=True, k=200, rows=FEW),
    Wgmma("swapped-few-blocks", swapped=True, config=(8, 64, 1, 3), grid=2, n=136, k=200, rows=FEW),
    Wgmma("swapped-few-blocks-gathered", swapped=True, config=(16, 64, 1, 2), grid=2, gathered=True,
          k=200, rows=FEW),
    Wgmma("swapped-gated", swapped=True, config=(24, 128, 2, 3), gated=True, n=136, k=72, rows=FEW),
    Wgmma("swapped-transposed", swapped=True, config=(16, 128, 2, 2), gated=True, gathered=True,
          transposed=True, n=72, rows=FEW),
    Wgmma("swapped-alternating", swapped=True, config=(16, 64, 1, 3), gated=True, alternating=(0, 1),
          gathered=True, transposed=True, n=36, rows=FEW),
    Wgmma("swapped-alternating-up-first", swapped=True, config=(24, 128, 2, 2), gated=True,
          alternating=(1, 0), transposed=True, n=136, k=72, grid=2, rows=FEW),
    Wgmma("swapped-prologue", swapped=True, config=(8, 64, 1, 4), permuted=True, prologue="weights",
          gathered=True, k=200, rows=FEW),
    Wgmma("swapped-extras", swapped=True, config=(32, 64, 1, 2), extras=True, gathered=True, n=33,
          out="f32", rows=FEW),
]


def last_operand(value: int) -> Damage:
    """A line whose last i32 operand is `value`."""
    return lambda line: (f"%bad = llvm.mlir.constant({value} : i32) : i32\n"
                         + re.sub(r", %\w+ :", ", %bad :", line))


def same_box(text: str) -> str:
    """The kernel with the last box of a step where the one before it is."""
    boxes = re.findall(r"bulk.tensor.*(box\[[^]]*\])", text)
    at = text.rindex(boxes[-1])
    return text[:at] + boxes[-2] + text[at + len(boxes[-1]):]


WAIT, EXPECT, ARRIVE = "mbarrier.try_wait", "mbarrier.arrive.expect_tx", "mbarrier.arrive %"
# A variant, and what is done to its kernel or to the host's tensor maps. Of the waits, the first is
# that for an empty stage.
MUTANTS = {
    "writes before a stage is empty": ("few-blocks", nth(WAIT, 0)),
    "reads before a stage is full": ("few-blocks", nth(WAIT, 1)),
    "announces too few bytes": ("few-blocks", nth(EXPECT, 0, last_operand(8192))),
    "announces too many bytes": ("few-blocks", nth(EXPECT, 0, last_operand(16400))),
    "announces nothing": ("few-blocks", nth(EXPECT, 0)),
    "copies no weights": ("few-blocks", nth("cp.async.bulk", 1)),
    "k and rows change places": ("plain", each("cp.async.bulk", r"box\[(%\w+), (%\w+)", r"box[\2, \1")),
    "map without a swizzle": ("plain", lambda t: t.replace("swizzle_128b", "none")),
    "descriptor of another swizzle": (
        "plain", lambda t: t.replace("4611686293305360384", "-9223371761976803328")),
    "panels at another distance": (
        "transposed", lambda t: t.replace("4611686293338849280", "4611686293322072064")),
    "never gives a stage back": ("few-blocks", nth(ARRIVE, 0)),
    "does not give the last stage back": ("few-blocks", nth(ARRIVE, 1)),
    "gives stages back unread": ("few-blocks", drop("wgmma.wait.group.sync.aligned 1")),
    "takes unfinished sums": ("few-blocks", drop("wgmma.wait.group.sync.aligned 0")),
    "three warps empty a stage": ("few-blocks", nth("mbarrier.init", 1, last_operand(3))),
    "five warps empty a stage": ("few-blocks", nth("mbarrier.init", 1, last_operand(5))),
    "barriers nobody knows of": ("plain", drop("nvvm.barrier0")),
    "no proxy fence": ("gathered", drop("fence.proxy")),
    "no wait for gathered rows": ("gathered", drop("cp.async.wait.group")),
    "waits for a gathered step less": ("gathered", each("cp.async.wait.group", "1$", "2")),
    "gathered rows do not arrive": ("gathered", nth(ARRIVE, 0)),
    "gathered pieces at other places": ("gathered", lambda t: t.replace("llvm.xor", "llvm.or", 1)),
    "copies' parity stays": ("few-blocks", nth("llvm.xor", 1, swap("xor", "or"))),
    "products' parity stays": ("few-blocks", nth("llvm.xor", 2, swap("xor", "or"))),
    "waits for the other parity": ("few-blocks", nth(WAIT, 1, constant(1, r"(parity %\w+, )"))),
    "barriers that TMA does not know": ("few-blocks", drop("fence.mbarrier.init")),
    "products that no group has": ("few-blocks", drop("wgmma.commit.group")),
    "sides walk different tiles": ("few-blocks", nth("sreg.ctaid.x", 1, swap(
        r"nvvm.read.ptx.sreg.ctaid.x : i32", "llvm.mlir.constant(0 : i32) : i32"))),
    "rows of the next expert": ("plain", nth('icmp "slt"', 0, constant(
        100000, r'(icmp "slt" %\w+, )'), after="llvm.extractvalue")),
    "lanes exchange with others": ("plain", nth("nvvm.shfl.sync", 0, constant(
        3, r"(bfly %\w+, %\w+, )"), after="wait.group.sync.aligned 0")),
    "up is gate": ("gated", same_box),
    "alternating: one panel twice": ("alternating-128x128", same_box),
    "alternating: halves of words unsorted": ("alternating-few-blocks", nth(
        "llvm.shl", 0, swap("llvm.shl", "llvm.lshr"), after="nvvm.shfl.sync  bfly")),
    "rows of choices, not of tokens": ("gathered", nth("llvm.udiv", 0, swap(
        r"llvm.udiv (%\w+), .* : i32", r"llvm.or \1, \1 : i32"), after="llvm.getelementptr %arg2[")),
    "gathered pieces beyond K": ("gathered", each(
        "nvvm.cp.async.shared", r", %\w+ : (.*), i32", r" : \1")),
    "swapped: stages given back unread": (
        "swapped-few-blocks", drop("wgmma.wait.group.sync.aligned 1")),
    "swapped: writes before a stage is empty": ("swapped-few-blocks", nth(WAIT, 0)),
    "swapped: the last stage is kept": ("swapped-few-blocks", nth(ARRIVE, 1)),
    "swapped: gate and up of other columns": ("swapped-alternating", nth("nvvm.shfl.sync", 0, constant(
        8, r"(bfly %\w+, %\w+, )"), after="wait.group.sync.aligned 0")),
    "swapped: no proxy fence": ("swapped-gathered", drop("fence.proxy")),
    "map of more rows than there are": (
        "plain", each("reinterpret_cast", r"sizes: \[%dim", "sizes: [4096")),
    "map of fewer columns than there are": (
        "parts-of-tiles", each("reinterpret_cast", r"sizes: \[4, 72", "sizes: [4, 64")),
}


def main() -> None:
    """Checks the variants asked for."""
    check_kernels.check(VARIANTS, MUTANTS, sys.argv[1:])


if __name__ == "__main__":
    main()
