"""Assembles the PTX in the output of gpu-module-to-binary and checks what ptxas says of each kernel.

usage: moe-opt … | check_ptxas.py PTXAS CHIP KERNEL=MAX_REGISTERS…

Every kernel must be named with its budget of registers. No spills, no stack, no warning about
waits that ptxas had to add (C75xx). Prints a line a kernel; exits with 1 where one is over.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ASSEMBLY = re.compile(r'assembly = "((?:[^"\\]|\\.)*)"', re.DOTALL)
KERNEL = re.compile(
    r"Compiling entry function '(\w+)'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
    r"Used (\d+) registers",
    re.DOTALL,
)


def extract_ptx(module: str) -> str:
    """The text in the gpu.binary of `module`, as MLIR prints strings: \\XX is a byte."""
    found = ASSEMBLY.search(module)
    if not found:
        sys.exit("error: no gpu.binary with PTX in the input")
    text = re.sub(r"\\([0-9A-F]{2})", lambda m: chr(int(m.group(1), 16)), found.group(1))
    return text.replace("\\\\", "\\").rstrip("\0")


def assemble(ptxas: str, chip: str, ptx: str, cubin: Path | None = None) -> str:
    """What ptxas has to say; the machine code goes to `cubin`."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernels.ptx")
        source.write_text(ptx)
        target = cubin or Path(folder, "kernels.cubin")
        done = subprocess.run([ptxas, "-v", "-O3", f"-arch={chip}", source, "-o", target],
                              capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode:
        sys.exit(f"error: ptxas fails for {chip}:\n{said}")
    return said


def main() -> None:
    """Checks all kernels."""
    ptxas, chip, *limits = sys.argv[1:]
    budgets = {name: int(limit) for name, limit in (text.split("=") for text in limits)}
    said = assemble(ptxas, chip, extract_ptx(sys.stdin.read()))
    problems = [line for line in said.splitlines() if "C75" in line]
    seen = set()
    for name, stack, stores, loads, registers in KERNEL.findall(said):
        seen.add(name)
        print(f"{chip} {name}: {registers} registers, {stores} spilled, {stack} of stack")
        if name not in budgets:
            problems.append(f"{name} has no budget")
        elif int(registers) > budgets[name]:
            problems.append(f"{name} takes {registers} registers of {budgets[name]}")
        if int(stack) or int(stores) or int(loads):
            problems.append(f"{name} spills: {stores} bytes, {stack} of stack")
    problems += [f"{name} is not there" for name in budgets if name not in seen]
    for problem in problems:
        print(f"error: {chip}: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
