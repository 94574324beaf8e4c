"""Checks that the code on a page occurs in files that are compiled and run.

    check_excerpts.py PAGE.md SOURCE...

Every statement of the page's ```cpp and ```cmake blocks must be in one of the sources, but for
comments, blanks, names of values (the page's are chosen to be read) and what is in SKIPPED.
"""

import re
import sys
from pathlib import Path

# Of the page alone: an ellipsis, and what every CMake project begins with.
SKIPPED = ("…", "cmake_minimum_required", "project(", "set(CMAKE_CXX")


def shape(line: str) -> str:
    """The line without comments and blanks; plain names on the right of '=' become '_'."""
    line = re.sub(r"(//|#).*", "", line)
    line = re.sub(r"= *[\w.]+(\(\w*\))?;", "=_;", line)
    return re.sub(r"\s+", "", line)


def main() -> int:
    page, *sources = map(Path, sys.argv[1:])
    text = page.read_text(encoding="utf-8")
    code = shape_all("".join(path.read_text(encoding="utf-8") for path in sources))
    blocks = re.findall(r"^```(?:cpp|cmake)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()
             if shape(line) and not any(mark in line for mark in SKIPPED)]
    missing = [line for line in lines if shape(line) not in code]
    for line in missing:
        print(f"{page}: not in {', '.join(path.name for path in sources)}: {line.strip()}")
    print(f"{len(lines)} lines checked")
    return 1 if missing or not lines else 0


def shape_all(text: str) -> str:
    """All of a source, in shape."""
    return "".join(shape(line) for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
