"""Say what the loops that decode weights of a compiled layer are made of.

    python decode_loop.py LAYER.s CONVERSION CODES

Finds the innermost loops of the assembly that hold CONVERSION (the instruction that extends f16),
which handles CODES of them, and prints what an iteration has for 32 codes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from main_loop import innermost_loops

# Lanes that leave vectors or enter them one by one; a scale enters by one movd for a block.
LANES = re.compile(r"v?p(extr|insr)|v?(extract|insert)ps|v?mov[dq]\s+%xmm\d+, %[re]|v?ucomiss|"
                   r"v?p?gather|call")


def main() -> None:
    """Print the counts of all decode loops, the longest first, each kind once."""
    path, conversion, codes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    loops = [loop for loop in innermost_loops(Path(path).read_text())
             if any(line.startswith(conversion) for line in loop)]
    if not loops:
        sys.exit("no loop decodes")
    # The panel is on the stack, too, with an index.
    spills = sum("(%rsp)" in line or "(%rbp)" in line for loop in loops for line in loop)
    lanes = sum(bool(LANES.match(line)) for loop in loops for line in loop)
    print(f"{spills} operands on the stack, {lanes} lanes taken out or put in")
    counts = set()
    for loop in loops:
        number = sum(line.startswith(conversion) for line in loop) * codes
        vectors = sum("mm" in line for line in loop)
        counts.add((round(32 * vectors / number), round(32 * (len(loop) - vectors) / number)))
    for vectors, others in sorted(counts):
        print(f"for 32 codes: {vectors} vector instructions, {others} others")


if __name__ == "__main__":
    main()
