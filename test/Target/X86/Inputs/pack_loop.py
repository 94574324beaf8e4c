"""Say what the loops of packing code are made of.

    python pack_loop.py LAYER.s

Prints for each innermost loop that stores vectors how many it reads and stores, how many shuffles
there are, and how many vectors are spilled; then the moves of single elements, anywhere in the
layer.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from main_loop import innermost_loops, layer_lines

STORE = re.compile(r"v?mov\w+\s+%[xyz]mm\d+, (?P<memory>.*\))$")
READ = re.compile(r"v?[a-z]\w+\s+(\$\d+, )?(?P<memory>[-\w$]*\([^)]*\)), .*%[xyz]mm\d+$")
SHUFFLE = re.compile(r"v?(p?unpck|p?shuf|p?perm|palign|valign|p?blend|movlh|movhl|p(ack|ins|ext)|inserti|extracti)")
STACK = re.compile(r"%r[sb]p")
SINGLE = re.compile(r"(v?p(insr|extr)[bwdq]|v?movs[shd]|v?movd|movz[bw]\w|mov[bw])\s.*\(")


def main() -> None:
    """Print the counts of each loop, and of the whole file."""
    text = Path(sys.argv[1]).read_text()
    for loop in innermost_loops(text):
        stores = [match for line in loop if (match := STORE.match(line))]
        if not stores:
            continue
        reads = [match for line in loop if (match := READ.match(line))]
        spills = sum(bool(STACK.search(match["memory"])) for match in stores)
        reloads = sum(bool(STACK.search(match["memory"])) for match in reads)
        # Constants, such as the lanes of a shuffle, are no elements.
        constants = sum("(%rip" in match["memory"] for match in reads)
        print(f"{len(reads) - reloads - constants} vectors read, {len(stores) - spills} stored, "
              f"{sum(bool(SHUFFLE.match(line)) for line in loop)} shuffles, {spills} spilled")
    print(f"{sum(bool(SINGLE.match(line)) for line in layer_lines(text))} moves of single elements")


if __name__ == "__main__":
    main()
