"""Checks that the numbered constraints of the dialect, its verifiers and invalid*.mlir agree.

usage: check_constraints.py INVALID.mlir... --td FILE... --cpp FILE...

A constraint is stated in a .td file as `gate_c3: …`, named in the verifier that checks it, and
tested in an INVALID.mlir by at least one case that starts with the comment `// gate_c3`. The
cases of a file come in the order in which the constraints are stated.
"""

import argparse
import re
import sys
from pathlib import Path

STATED = re.compile(r"\b([a-z_]+_c\d+): ")
TESTED = re.compile(r"^// ([a-z_]+_c\d+)\b", re.MULTILINE)
NAMED = re.compile(r"\b([a-z_]+)_c(\d+)(?:…c(\d+))?")


def named_in(text: str) -> set[str]:
    """All constraints that a source names, `dispatch_c4…c7` being four of them."""
    return {
        f"{op}_c{number}"
        for op, first, last in NAMED.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


def problems(stated: list[str], files: list[list[str]], named: set[str]) -> list[str]:
    """What is wrong, one sentence each. `files` has the constraints with a case, file by file."""
    tested = [c for cases in files for c in cases]
    found = [f"{c} is stated twice" for c in sorted({c for c in stated if stated.count(c) > 1})]
    found += [f"{c} is stated, but has no case" for c in stated if c not in tested]
    found += [f"{c} has a case, but is not stated" for c in tested if c not in stated]
    found += [f"{c} is stated, but no verifier names it" for c in stated if c not in named]
    for cases in files:
        places = [stated.index(c) for c in cases if c in stated]
        found += [
            f"the case of {stated[b]} comes after that of {stated[a]}"
            for a, b in zip(places, places[1:])
            if b < a
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("invalid", type=Path, nargs="+")
    parser.add_argument("--td", type=Path, nargs="+", required=True)
    parser.add_argument("--cpp", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    stated = [c for td in args.td for c in STATED.findall(td.read_text(encoding="utf-8"))]
    files = [TESTED.findall(mlir.read_text(encoding="utf-8")) for mlir in args.invalid]
    named = set().union(*(named_in(cpp.read_text(encoding="utf-8")) for cpp in args.cpp))
    found = problems(stated, files, named)
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(stated)} constraints, {sum(map(len, files))} cases, {len(found)} problems")
    return 1 if found or not stated else 0


if __name__ == "__main__":
    sys.exit(main())
