"""What the main loops of a compiled layer cost: what they are made of, and how fast they run alone.

    moe-compile LAYER.mlir --target-cpu=native --pack-weights --emit=asm -o layer.s
    python benchmarks/loops.py layer.s --instruction vdpbf16ps --products 24,4

Each innermost loop with so many products is taken out of the assembly and run by itself, with all
that it reads in the first cache: what is missing to the peak then is the loop's own, and what a
layer loses beyond it is memory's, or is lost between loops. Peak and loop take turns on one thread,
so that both have the same clock; a cycle is the time in which the peak has two products.
For x86-64; the loop has to count up to a constant, as those over k do.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "test/Target/X86/Inputs")]

from main_loop import innermost_loops  # noqa: E402
from ours import load_runtime  # noqa: E402
from run import numbers  # noqa: E402
from timing import PeakProbe  # noqa: E402

KEPT = ("rbx", "rbp", "r12", "r13", "r14", "r15")  # by a function, for its caller
MEMORY = re.compile(r"(-?\d+)?\((%\w+)?(?:,(%\w+)(?:,(\d))?)?\)")
ROUNDS, SECONDS = 60, 0.001
PRODUCTS_A_CYCLE = 2
SLOT_BYTES = 4096  # of a stack that loops read addresses from


class Access(NamedTuple):
    """disp(base,index,scale)"""

    disp: int
    base: str
    index: str
    scale: int


def accesses(line: str) -> list[Access]:
    """Of one instruction; at most one in fact."""
    return [Access(int(disp or 0), base.lstrip("%"), index.lstrip("%"), int(scale or 1))
            for disp, base, index, scale in MEMORY.findall(line)]


class Counts(NamedTuple):
    """Instructions of a loop."""

    products: int
    vectors: int  # loaded, whole ones and operands of products
    broadcasts: int
    stack: int
    prefetches: int
    others: int

    @property
    def total(self) -> int:
        """All of them; a product with an operand in memory is one."""
        return self.products + self.broadcasts + self.stack + self.prefetches + self.others


def count(loop: list[str], instruction: str) -> Counts:
    """What a loop is made of. `others` has loads of vectors that are instructions of their own."""
    def lines(test) -> int:
        return sum(map(bool, map(test, loop)))

    def is_product(line: str) -> bool:
        return line.startswith(instruction)

    def is_prefetch(line: str) -> bool:
        return line.startswith("prefetch")

    def is_stack(line: str) -> bool:
        return any(access.base == "rsp" for access in accesses(line)) and not is_product(line)

    def is_broadcast(line: str) -> bool:
        return "broadcast" in line and bool(accesses(line)) and not is_stack(line)
    beside = [is_product, is_prefetch, is_stack, is_broadcast]
    vectors = lines(lambda line: accesses(line) and re.search(r"%[xyz]mm", line)
                    and not is_broadcast(line))
    return Counts(lines(is_product), vectors, lines(is_broadcast), lines(is_stack),
                  lines(is_prefetch), lines(lambda line: not any(is_(line) for is_ in beside)))


def refuse(loop: list[str]) -> None:
    """Raises ValueError for a loop that cannot run here, or whose addresses are not understood."""
    flags = Path("/proc/cpuinfo").read_text()
    for part, flag in (("vfm", "fma"), ("%zmm", "avx512f"), ("vdpbf16", "avx512_bf16")):
        if any(part in line for line in loop) and not re.search(rf"\b{flag}\b", flags):
            raise ValueError(f"this machine has no {flag}")
    known = re.compile(r"(add|sub)q\s+[$%]|incq|(cmp|test)q\s|movq\s+\d+\(%rsp\), |prefetch|j")
    for line in loop:
        if not known.match(line) and not line.startswith("v"):
            raise ValueError(f"it has an instruction that is not known here: {line}")
        if line.startswith("v") and re.search(r"%[er](?!ip)\w+$", line):
            raise ValueError(f"a register that may be an address is computed: {line}")


class Registers:
    """Where the registers of a loop begin, such that all it reads is in a small buffer."""

    def __init__(self, loop: list[str]) -> None:
        refuse(loop)
        steps = {}
        for line in loop:
            if match := re.match(r"(add|sub)q\s+\$(-?\d+), %(\w+)", line):
                steps[match[3]] = int(match[2]) * (1 if match[1] == "add" else -1)
            elif match := re.match(r"incq\s+%(\w+)", line):
                steps[match[1]] = 1
        compared = re.match(r"cmpq\s+\$(\d+), %(\w+)", loop[-2]) if len(loop) > 1 else None
        if not compared or steps.get(compared[2], 0) <= 0 or not loop[-1].startswith("jne"):
            raise ValueError("it does not count up to a constant")
        limit, counter = int(compared[1]), compared[2]
        self.trips, start = divmod(limit, steps[counter])
        found = [access for line in loop for access in accesses(line)]
        written = {line.rsplit("%", 1)[-1] for line in loop if line.startswith("movq")}
        # Addresses that are added up by a register stay where they are: only prefetches have them.
        self.numbers = {register: 0 for line in loop for register in
                        re.findall(r"(?<=add)q\s+%(\w+)", line)}
        self.numbers |= {access.index: 0 for access in found if access.index} | {counter: start}
        self.addresses: dict[str, int] = {}  # of a register or a place on the stack → in the buffer
        self.bytes = 0

        def place(name: str, access: list[Access]) -> None:
            """Room for all that is read from an address in the course of the loop."""
            low = min((each.disp for each in access), default=0)
            far = [each.disp + self.trips * (max(0, steps.get(each.base, 0))
                                             + each.scale * max(0, steps.get(each.index, 0)))
                   for each in access]
            self.addresses[name] = self.bytes - min(low, 0)
            self.bytes += (max(far, default=0) - min(low, 0) + 127) // 64 * 64
        for slot in sorted({access.disp for access in found if access.base == "rsp"}):
            place(f"{slot}(%rsp)", [access for access in found if access.base in written])
        for base in sorted({access.base for access in found} - {"rsp", ""} - written):
            if base not in self.numbers:
                place(base, [access for access in found if access.base == base])

    def set_up(self) -> list[str]:
        """With the buffer in %rdi, which is the last to be set."""
        slots = [name for name in self.addresses if "(" in name]
        lines = [line for name in slots
                 for line in (f"leaq {self.addresses[name]}(%rdi), %rax", f"movq %rax, {name}")]
        ours = [f"leaq {at}(%rdi), %{name}" for name, at in self.addresses.items()
                if name not in slots]
        ours += [f"movq ${number}, %{name}" for name, number in self.numbers.items()]
        return lines + sorted(ours, key=lambda line: line.endswith("%rdi"))


def assembly(loop: list[str], registers: Registers) -> str:
    """run(buffer, times), which runs the loop again and again on the same memory."""
    vector = "zmm" if any("%zmm" in line for line in loop) else "ymm"
    zeros = [f"vpxor %xmm{i}, %xmm{i}, %xmm{i}" for i in range(16)]
    if vector == "zmm":
        zeros += [f"vpxorq %zmm{i}, %zmm{i}, %zmm{i}" for i in range(16, 32)]
    return "\n".join([
        ".text", ".globl run", "run:", *(f"push %{name}" for name in KEPT),
        "movq %rsp, caller(%rip)", "movq %rdi, buffer(%rip)", "movq %rsi, times(%rip)",
        f"subq ${SLOT_BYTES}, %rsp", "andq $-64, %rsp", *zeros,
        "again:", "movq buffer(%rip), %rdi", *registers.set_up(), ".p2align 6",
        "loop:", *loop[:-1], "jne loop",
        "decq times(%rip)", "jne again",
        "movq caller(%rip), %rsp", "vzeroupper", *(f"pop %{name}" for name in reversed(KEPT)),
        "ret", ".bss", "caller: .zero 8", "buffer: .zero 8", "times: .zero 8",
        '.section .note.GNU-stack,"",@progbits', ""])


def load(text: str, folder: Path) -> ctypes.CDLL:
    """Assembled by g++, which the benchmark's run time needs, too."""
    compiler = shutil.which("g++")
    if not compiler:
        raise FileNotFoundError("loops are assembled with g++, which is not on the PATH")
    source, library = folder / "loop.s", folder / "loop.so"
    source.write_text(text)
    subprocess.run([compiler, "-shared", source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


class Speed(NamedTuple):
    """Of a loop alone."""

    share: float  # of the peak
    cycles: float  # an iteration
    bytes: int  # that it reads


def measure(loop: list[str], instruction: str, runtime: ctypes.CDLL) -> Speed:
    """The best of its products a second over those of the peak between them."""
    registers = Registers(loop)
    products = count(loop, instruction).products
    widest = re.search(r"%([xyz])mm", next(line for line in loop if line.startswith(instruction)))
    lanes = {"x": 4, "y": 8, "z": 16}[widest[1]]
    is_pair = instruction.startswith("vdpbf16")
    operations = products * lanes * (4 if is_pair else 2)
    buffer = np.full(registers.bytes + 8192, 0x3f, np.uint8)
    start = buffer.ctypes.data + -buffer.ctypes.data % 4096
    probe = PeakProbe(runtime, "bf16" if is_pair else "f32")
    runtime.moe_rt_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = load(assembly(loop, registers), Path(folder)).run
    run.argtypes = [ctypes.c_void_p, ctypes.c_int64]

    def seconds(times: int) -> float:
        begin = time.perf_counter()
        run(start, times)
        return time.perf_counter() - begin
    times = 1
    while seconds(times) < SECONDS:
        times *= 2
    rates, peaks = [], []
    for _ in range(ROUNDS):
        rates.append(times * registers.trips * operations / seconds(times))
        peaks.append(probe())
    share = max(rates) / max(peaks)  # other programs only take away
    return Speed(share, products / PRODUCTS_A_CYCLE / share, registers.bytes)


def main() -> None:
    """A table of the loops; one that cannot run alone is counted only."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("assembly", type=Path)
    parser.add_argument("--instruction", default="vdpbf16ps", help="of the products")
    parser.add_argument("--products", type=numbers, default="24,4",
                        help="of the loops to be shown: 24,4")
    chosen = parser.parse_args()
    if platform.machine() != "x86_64":
        sys.exit(f"loops.py: reads x86-64 assembly, and runs it; this is {platform.machine()}")
    try:
        text, runtime = chosen.assembly.read_text(), load_runtime()
    except OSError as error:
        sys.exit(f"loops.py: {error}")
    seen = set()
    print("| products | vectors loaded | broadcasts | stack | prefetches | instructions "
          "| a product | of the peak alone | cycles | reads |\n" + "|---" * 10 + "|")
    for loop in innermost_loops(text):
        counts = count(loop, chosen.instruction)
        if counts.products not in chosen.products or counts in seen:
            continue
        seen.add(counts)
        try:
            speed = measure(loop, chosen.instruction, runtime)
            told = f"{speed.share:.0%} | {speed.cycles:.1f} | {speed.bytes / 1024:.0f} KB"
        except ValueError as error:
            told = f"{error} | | "
        print(f"| {counts.products} | {counts.vectors} | {counts.broadcasts} | {counts.stack} "
              f"| {counts.prefetches} | {counts.total} | {counts.total / counts.products:.2f} "
              f"| {told} |")
    if not seen:
        sys.exit(f"loops.py: {chosen.assembly} has no loop with so many {chosen.instruction}: "
                 f"{', '.join(map(str, chosen.products))}")


if __name__ == "__main__":
    main()
