"""Say what the loops over k of a compiled layer are made of.

    python main_loop.py LAYER.s INSTRUCTION SUMS

Finds the innermost loops of the assembly that hold INSTRUCTION, and prints for those with whole
tiles (SUMS instructions a step, or a multiple where it is unrolled) what a step has beside them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def innermost_loops(text: str) -> list[list[str]]:
    """The instructions between each label and a jump back to it, without labels inside."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    labels: dict[str, int] = {}
    loops = []
    for i, line in enumerate(lines):
        if match := re.match(r"(\.L\w+):", line):
            labels[match[1]] = i
        elif match := re.match(r"j\w+\s+(\.L\w+)", line):
            begin = labels.get(match[1])
            if begin is None:
                continue
            body = [line for line in lines[begin + 1:i + 1] if line]
            if not any(line.endswith(":") for line in body):
                loops.append([line for line in body if not line.startswith(".")])
    return loops


def main() -> None:
    """Print the counts of the whole tiles' loops, and of stack accesses in all."""
    path, instruction, sums = sys.argv[1], sys.argv[2], int(sys.argv[3])
    loops = [loop for loop in innermost_loops(Path(path).read_text())
             if any(line.startswith(instruction) for line in loop)]
    spills = sum("(%rsp" in line or "(%rbp" in line for loop in loops for line in loop)
    print(f"{len(loops)} loops over k, {spills} accesses of the stack")
    whole = 0
    for loop in loops:
        products = sum(line.startswith(instruction) for line in loop)
        if products % sums:
            continue
        whole += 1
        steps = products // sums
        prefetches = sum(line.startswith("prefetch") for line in loop)
        others = (len(loop) - products - prefetches) / steps
        print(f"whole tile: {sums} {instruction} a step, {prefetches / steps:g} prefetches, "
              f"{others:g} other instructions")
    if not whole:
        sys.exit("no loop has a whole tile")


if __name__ == "__main__":
    main()
