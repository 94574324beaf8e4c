"""SASS as nvdisasm prints it: its kernels, their loops, and what is in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

_KERNEL = re.compile(r"\s*\.section\s+\.text\.(\w+),")
_LABEL = re.compile(r"(\.\w+):")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(([A-Z][A-Z0-9_]*)[^;]*?)\s*;")
_TARGET = re.compile(r"`\((\.\w+)\)")
# Tensor cores: of a warp, of a warp group (sm_90a).
MMA = ("HMMA", "HGMMA")


@dataclass
class Kernel:
    """Instructions without predicates, and the number of the one that each label precedes."""

    name: str
    instructions: list[str] = field(default_factory=list)
    opcodes: list[str] = field(default_factory=list)  # without their modifiers
    labels: dict[str, int] = field(default_factory=dict)

    def loops(self) -> Iterator[range]:
        """From the target of each backward branch to the branch."""
        for i, (opcode, text) in enumerate(zip(self.opcodes, self.instructions)):
            target = _TARGET.search(text) if opcode == "BRA" else None
            # The branch to itself behind the last instruction is padding.
            if target and self.labels.get(target[1], i) < i:
                yield range(self.labels[target[1]], i + 1)

    def count(self, where: range) -> Counter[str]:
        """How often there is which opcode."""
        return Counter(self.opcodes[i] for i in where)

    def num_mma(self, where: range) -> int:
        return sum(self.count(where)[mma] for mma in MMA)

    def main_loop(self) -> range | None:
        """Of the innermost loops that multiply, the one that multiplies most; None without any."""
        loops = [loop for loop in self.loops() if self.num_mma(loop)]
        inner = [loop for loop in loops
                 if not any(set(other) < set(loop) for other in loops)]
        return max(inner, key=self.num_mma, default=None)


def parse(listing: str) -> list[Kernel]:
    """The kernels in what `nvdisasm -c` prints."""
    kernels: list[Kernel] = []
    for line in listing.splitlines():
        if found := _KERNEL.match(line):
            kernels.append(Kernel(found[1]))
        elif kernels and (found := _LABEL.match(line)):
            kernels[-1].labels[found[1]] = len(kernels[-1].instructions)
        elif kernels and (found := _INSTRUCTION.match(line)):
            kernels[-1].instructions.append(found[1])
            kernels[-1].opcodes.append(found[2])
    return kernels
