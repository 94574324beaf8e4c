"""Say what the loop of a gate's code is made of that holds the choices of a token.

    python gate_loop.py LAYER.s

A choice is a maximum over registers of i64 numbers (vpmaxsq) and a number that leaves them
(notl). What of the stack may be in the loop are the row of scores, whose vectors are stored, and
the scores of what was chosen, which are read one by one by their id.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from main_loop import innermost_loops

STACK = re.compile(r"\(%r[sb]p")
BY_ID = re.compile(r"\(%r[sb]p,%r\w+,4\)")
SCALAR = re.compile(r"v?(add|sub|mul|div|max|min|sqrt|comi|ucomi|cmp\w*|fn?m\w+)s[sd]\b")


def main() -> None:
    """Print the counts of each loop with choices, and the scalar arithmetic of the whole file."""
    text = Path(sys.argv[1]).read_text()
    loops = [loop for loop in innermost_loops(text)
             if any(line.startswith("vpmaxsq") for line in loop)]
    if not loops:
        sys.exit("no loop has a choice")
    for loop in loops:
        def count(pattern: str, lines: list[str] = loop) -> int:
            return sum(re.match(pattern, line) is not None for line in lines)

        stack = [line for line in loop if STACK.search(line)]
        stores = [line for line in stack if re.search(r"\(%r[sb]p\)$", line)]
        reads = [line for line in stack if BY_ID.search(line)]
        choices = count(r"notl\b")
        print(f"{choices} choices, {count('vpmaxsq') / choices:g} maxima each, "
              f"{count(r'j') - 1} branches")
        print(f"scores: {len(stores)} vectors stored, {len(reads)} read, "
              f"{len(stack) - len(stores) - len(reads)} other accesses of the stack")
    scalars = sum(SCALAR.match(line.strip()) is not None for line in text.splitlines())
    print(f"{scalars} scalar operations on floats")


if __name__ == "__main__":
    main()
