"""Checks that programs use the shared MLIR and LLVM and hold no copy of them.

usage: check_links.py --nm llvm-nm --readobj llvm-readobj FILE...

Each FILE must need libLLVM.so, must need libMLIR.so if it uses anything of MLIR, and must not
define what those libraries define. A second copy has other TypeIDs, and casts fail at run time.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

# Constructors and functions that are not inline: defined where the library's objects are.
CORE = ("_ZN4mlir11MLIRContextC", "_ZN4mlir9Operation6create", "_ZN4mlir7DialectC",
        "_ZN4llvm11raw_ostream5write", "_ZN4llvm2cl6Option", "_ZN4llvm11LLVMContextC")
NEEDED = re.compile(r"lib(MLIR|LLVM)[-.][^ \n]*")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def names(nm: str, kind: str, file: Path) -> list[str]:
    """Mangled names of the symbols of `file`; those of executables and those for the loader."""
    listed = output(nm, kind, "--format=just-symbols", str(file))
    return listed.split() + output(nm, "-D", kind, "--format=just-symbols", str(file)).split()


def problems(nm: str, readobj: str, file: Path) -> list[str]:
    needed = {match[1] for match in NEEDED.finditer(output(readobj, "--needed-libs", str(file)))}
    found = [] if "LLVM" in needed else ["does not need libLLVM.so"]
    if "MLIR" not in needed and any(n.startswith("_ZN4mlir")
                                    for n in names(nm, "--undefined-only", file)):
        found.append("uses MLIR without needing libMLIR.so")
    copies = [n for n in names(nm, "--defined-only", file) if n.startswith(CORE)]
    if copies:
        found.append(f"defines {copies[0]}, which is libMLIR's or libLLVM's")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nm", required=True)
    parser.add_argument("--readobj", required=True)
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    bad = 0
    for file in arguments.files:
        found = problems(arguments.nm, arguments.readobj, file)
        bad += bool(found)
        print(f"{file.name}: {'; '.join(found) or 'shared'}")
    print(f"{len(arguments.files)} files, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
