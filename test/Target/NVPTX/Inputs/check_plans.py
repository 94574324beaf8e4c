"""Runs the kernels of moe.plan under emulation and compares them with numpy, bit for bit.

usage: check_plans.py MOE_OPT [NAME…]      (all variants, or those whose name starts so)
       check_plans.py MOE_OPT --mutants    damaged kernels, each of which must be found out

Each variant runs with several numbers of tokens and blocks, and ids that are spread evenly, all the
same, or nowhere. Prints a line a variant.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time

import numpy as np
from check_kernels import MUTANT_SEEDS, Damage, drop, each, lower, nth, swap
from moe import emulation, reference

SCHEDULES = 25  # of each variant
MAX_BLOCKS = 64  # rows of the counts that blocks share


@dataclasses.dataclass
class Plan:
    """A moe.plan, and (tokens, blocks) of its runs."""

    name: str
    k: int = 2
    experts: int = 8
    capacity: int | None = None
    order: str = "token_major"
    priority: bool = False
    group: int | None = None
    runs: tuple[tuple[int, int], ...] = ((0, 1), (1, 1), (37, 1), (37, 3), (0, 2))

    def text(self) -> str:
        """The op, bufferized."""
        ids, p = f"memref<?x{self.k}xi32>", f"memref<?x{self.k}xf32>"
        limits = "" if self.capacity is None else f"capacity(%c) order({self.order}) "
        limits += f"priority(%p : {p}) " if self.priority else ""
        limits += "tokens_per_group(%g) " if self.group is not None else ""
        return f"""
func.func @v(%ids: {ids}, %p: {p}, %o: memref<{self.experts + 1}xi32>, %s: {ids}, %r: memref<?xi32>, %c: index, %g: index) {{
  moe.plan ids(%ids : {ids}) {limits}
      outs(%o, %s, %r : memref<{self.experts + 1}xi32>, {ids}, memref<?xi32>)
  return
}}"""

    def warps(self) -> int:
        """Warps of a block: as many as have counts in 48 KB."""
        return next(w for w in (32, 16, 8, 4) if 4 * ((w + 2) * self.experts + 1) <= 48 * 1024)

    def draw(self, generator: np.random.Generator, tokens: int, seed: int) -> np.ndarray:
        """Ids: anything around [0, E); all on the last expert; or as a gate gives them."""
        shape = (tokens, self.k)
        if seed % 3 == 0:
            return np.full(shape, self.experts - 1, np.int32)
        if seed % 3 == 1:
            return generator.integers(-2, self.experts + 2, shape).astype(np.int32)
        return np.array([generator.permutation(max(self.experts, self.k))[:self.k]
                         for _ in range(tokens)], np.int32).reshape(shape)

    def run(self, kernels: emulation.Kernels, tokens: int, blocks: int, seed: int) -> None:
        """Mark, count and place, as the host launches them."""
        generator = np.random.default_rng(seed)
        ids = self.draw(generator, tokens, seed)
        priority = generator.integers(0, 4, ids.shape).astype(np.float32)
        priority[generator.random(ids.shape) < 0.1] = np.nan
        offsets = np.full(self.experts + 1, 77, np.int32)
        slots = np.full(ids.shape, 77, np.int32)
        source = np.full(ids.size + 5, 77, np.int32)
        counts = np.full((MAX_BLOCKS, self.experts), 77, np.int32)
        number, threads = np.int32(ids.size), 32 * self.warps()
        launch = dict(block=threads, seed=seed, shared=4 * ((self.warps() + 2) * self.experts + 1))
        limits = {}
        if self.capacity is not None:
            group = max(1, min(tokens, tokens if self.group is None else self.group))
            args = [ids, slots] + [priority] * self.priority
            scalars = [np.int32(tokens), number, np.int32(max(0, self.capacity)), np.int32(group)]
            kernels.launch("v_plan_mark", blocks, args=args + scalars, **launch)
            limits = dict(capacity=self.capacity, order=self.order, tokens_per_group=self.group,
                          priority=priority if self.priority else None)
        if blocks > 1:
            marks = [slots] if self.capacity is not None else []
            kernels.launch("v_plan_count", blocks, args=[ids, *marks, counts, number], **launch)
        kernels.launch("v_plan", blocks, args=[ids, offsets, slots, source, counts, number,
                                               np.int32(source.size)], **launch)
        wanted = reference.plan(ids, self.experts, source.size, **limits)
        for what, got, want in zip(("offsets", "slots", "source"), (offsets, slots, source), wanted):
            if not np.array_equal(got, want):
                sys.exit(f"error: {self.name}, {tokens} tokens, {blocks} blocks, seed {seed}: "
                         f"{what} are\n{got}, want\n{want}")


PLANS = [
    Plan("plain"),
    Plan("one-expert", experts=1, k=1),
    Plan("no-expert", experts=0, k=1, runs=((5, 1),)),
    Plan("40-experts", experts=40, k=8),
    Plan("257-experts", experts=257, k=8, runs=((1, 1), (150, 1), (150, 2))),
    Plan("512-experts", experts=512, k=10, runs=((70, 1), (70, 2))),
    Plan("all-experts", experts=7, k=7, runs=((33, 1), (33, 2))),
    Plan("many-tokens", experts=70, k=4, runs=((2000, 1), (2000, 5))),
    Plan("capacity", capacity=3),
    Plan("capacity-0", capacity=-1, runs=((20, 1),)),
    Plan("choice-major", capacity=4, order="choice_major", experts=5, k=3),
    Plan("groups", capacity=2, group=10, runs=((37, 1), (37, 3), (9, 2))),
    Plan("40-experts-in-groups", experts=40, k=8, capacity=3, group=60, runs=((100, 1), (50, 2))),
    Plan("choice-major-groups", capacity=2, order="choice_major", group=7, k=3, runs=((45, 2),)),
    Plan("priority", capacity=3, priority=True),
    Plan("priority-choice-major", capacity=2, priority=True, order="choice_major", group=11,
         runs=((30, 1), (30, 2))),
]

def within(kernel: str, damage: Damage) -> Damage:
    """What `damage` does, to one kernel alone."""
    def of(text: str) -> str:
        start = text.index(f"@{kernel}(")
        end = text.index("llvm.return", start)
        return text[:start] + damage(text[start:end]) + text[end:]
    return of


BARRIER, SYNC = "nvvm.barrier0", "nvvm.bar.warp.sync"
# A variant, its tokens and blocks, and what is done to its kernels.
MUTANTS = {
    "no barriers": ("plain", 37, 1, drop(BARRIER)),
    "no wait for the warp": ("many-tokens", 400, 1, drop(SYNC)),
    "lanes above count": ("40-experts", 37, 1, each("llvm.intr.ctpop", r"ctpop\(%\w+\)", "ctpop(%1)")),
    "blocks take the first stretch": ("plain", 37, 3, each(
        "sreg.ctaid.x", r"nvvm.read.ptx.sreg.ctaid.x : i32", "llvm.mlir.constant(0 : i32) : i32")),
    "groups run into each other": ("groups", 37, 1, within("v_plan_mark", nth(BARRIER, -1))),
    "stale counts of blocks": ("plain", 37, 3, within("v_plan_count", nth("llvm.store", -1))),
    "stale counts of warps": ("plain", 37, 1, within("v_plan", nth("llvm.store", 0))),
    "stale counts of a group": ("capacity", 400, 1, within("v_plan_mark", nth("llvm.store", 0))),
    "marks that are stale": ("capacity", 37, 1, within("v_plan_mark", nth("!llvm.ptr<1>", -1))),
    "no wait for the warp that marks": ("groups", 400, 1, within("v_plan_mark", drop(SYNC))),
    "one more than the capacity": ("capacity", 37, 1, within("v_plan_mark", each(
        ", %arg4", '"slt"', '"sle"'))),
    "no limit of the kept": ("capacity", 37, 3, within("v_plan_count", nth("llvm.and", 1, swap(
        r"llvm.and (%\w+), .* : i1", r"llvm.and \1, \1 : i1")))),
    "rows of no one that are stale": ("plain", 37, 1, within("v_plan", nth("llvm.store", -1))),
} | {f"barrier {i} of {kernel} is missing": (of, 100, blocks, within(kernel, nth(BARRIER, i)))
     for kernel, of, blocks, count in (("v_plan_mark", "40-experts-in-groups", 1, 4),
                                       ("v_plan_count", "40-experts", 2, 2),
                                       ("v_plan", "40-experts", 1, 5))
     for i in range(count)}


def find(variant: Plan, damaged: str, tokens: int, blocks: int) -> tuple[int, str]:
    """Under how many of the schedules damaged kernels are found out, and how at first."""
    kernels, texts = emulation.compile_kernels(damaged), []
    for seed in MUTANT_SEEDS:
        try:
            variant.run(kernels, tokens, blocks, seed)
        except (emulation.EmulationError, SystemExit) as found:
            texts.append(str(found).splitlines()[0])
    return len(texts), (texts or [""])[0]


def check_mutants(moe_opt: str) -> None:
    """Fails if a damaged kernel passes for a good one."""
    survivors = []
    for name, (of, tokens, blocks, damage) in MUTANTS.items():
        variant = next(v for v in PLANS if v.name == of)
        kernel = emulation.kernels_of(lower(moe_opt, variant.text()))
        damaged = damage(kernel)
        if damaged == kernel:
            sys.exit(f"error: '{name}' changes nothing")
        count, text = find(variant, damaged, tokens, blocks)
        print(f"{name}: found in {count} of {len(MUTANT_SEEDS)}, {text}", flush=True)
        if not count:
            survivors.append(name)
    if survivors:
        sys.exit(f"error: not found: {survivors}")


def main() -> None:
    """Checks the variants asked for."""
    moe_opt, *names = sys.argv[1:]
    if names == ["--mutants"]:
        return check_mutants(moe_opt)
    chosen = [v for v in PLANS if not names or v.name.startswith(tuple(names))]
    for variant in chosen:
        kernels = emulation.compile_kernels(emulation.kernels_of(lower(moe_opt, variant.text())))
        start, runs = time.monotonic(), itertools.cycle(variant.runs)
        for seed in range(1, SCHEDULES + 1):
            variant.run(kernels, *next(runs), seed)
        print(f"{variant.name}: ok under {SCHEDULES} schedules, {time.monotonic() - start:.1f} s",
              flush=True)
    if not chosen:
        sys.exit(f"error: no variant is called {names}")


if __name__ == "__main__":
    main()
