"""Say what the loops over k of a compiled layer are made of.

    python main_loop.py LAYER.s INSTRUCTION SUMS

Finds the innermost loops of the assembly that hold INSTRUCTION, and prints for those with whole
tiles (SUMS instructions a step, or a multiple where it is unrolled) what a step has beside them.
Accesses of the stack at fixed places count as spills: a panel of weights that is there is read at
an index that the loop counts up. At the end: operations on single elements, anywhere in the layer.
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


def layer_lines(text: str) -> list[str]:
    """The instructions of the layer's own functions: conversions of numbers have their names."""
    lines, is_own = [], False
    for line in text.splitlines():
        if match := re.match(r"([\w.]+):", line):
            if not match[1].startswith(".L"):
                is_own = not match[1].startswith(("__", "moe."))
        elif is_own:
            lines.append(line.split("#")[0].strip())
    return lines


SPILL = re.compile(r"(?<!,)\(%r[sb]p\)")
# Arithmetic on one float, and elements of 16 bits that are put together one by one.
SCALAR = re.compile(r"v((fn?m(add|sub)\d+|add|sub|mul|div)ss|p(insr|extr)w)\b")


def main() -> None:
    """Print the counts of the whole tiles' loops, and of stack accesses in all."""
    path, instruction, sums = sys.argv[1], sys.argv[2], int(sys.argv[3])
    text = Path(path).read_text()
    loops = [loop for loop in innermost_loops(text)
             if any(line.startswith(instruction) for line in loop)]
    # An address of a panel on the stack is no access.
    spills = sum(bool(SPILL.search(line)) and not line.startswith("lea")
                 for loop in loops for line in loop)
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
    print(f"{sum(bool(SCALAR.match(line)) for line in layer_lines(text))} scalar operations")
    if not whole:
        sys.exit("no loop has a whole tile")


if __name__ == "__main__":
    main()
