"""Assembles the PTX in the output of gpu-module-to-binary and checks the machine code, the SASS.

usage: moe-opt … | check_sass.py PTXAS NVDISASM CHIP KERNEL=MAX_PER_MMA…
       check_sass.py LISTING KERNEL=MAX_PER_MMA…

Every kernel must be named: with the most instructions that its main loop may have for each of its
tensor core instructions, or with 0 where it has no such loop. None may touch local memory. Prints
the main loop of each kernel (or all of one without), what it is made of, and what there is in all by
the alphabet; exits with 1 where one is over its budget. The second form checks what nvdisasm has printed into a file.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import sass
from check_ptxas import assemble, extract_ptx


def disassemble(ptxas: str, nvdisasm: str, chip: str, ptx: str) -> str:
    """The SASS that ptxas makes of `ptx`."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernels.cubin")
        assemble(ptxas, chip, ptx, cubin)
        done = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: nvdisasm fails for {chip}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check(kernel: sass.Kernel, budget: float) -> list[str]:
    """Prints the kernel's main loop; what is wrong with it."""
    everything = range(len(kernel.instructions))
    loop = kernel.main_loop()
    where = everything if loop is None else loop
    print(f"{kernel.name}:")
    for i in where:
        print(f"  {kernel.instructions[i]}")
    made_of = ", ".join(f"{n} {opcode}" for opcode, n in kernel.count(where).most_common())
    num_mma = kernel.num_mma(where)
    each = len(where) / num_mma if num_mma else 0
    print(f"{kernel.name}: {'loop of ' if loop else ''}{len(where)} instructions, {each:.2f} an MMA: "
          f"{made_of}")
    if loop is not None:
        whole = ",".join(f"{opcode}={n}" for opcode, n in sorted(kernel.count(everything).items()))
        print(f"{kernel.name}: in all {len(everything)} instructions: {whole}")
    problems = []
    local = [kernel.opcodes[i] for i in everything if kernel.opcodes[i] in ("LDL", "STL")]
    if local:
        problems.append(f"{kernel.name} has {len(local)} accesses to local memory")
    if bool(loop) != bool(budget):
        problems.append(f"{kernel.name} has {'a' if loop else 'no'} loop of tensor core instructions")
    elif each > budget:
        problems.append(f"{kernel.name} takes {each:.2f} instructions an MMA of {budget:.2f}")
    return problems


def main() -> None:
    """Checks all kernels."""
    paths = [argument for argument in sys.argv[1:] if "=" not in argument]
    budgets = {name: float(limit) for name, limit in
               (argument.split("=") for argument in sys.argv[1:] if "=" in argument)}
    if len(paths) == 1:
        listing = Path(paths[0]).read_text(encoding="utf-8")
    else:
        ptxas, nvdisasm, chip = paths
        listing = disassemble(ptxas, nvdisasm, chip, extract_ptx(sys.stdin.read()))
    kernels = {kernel.name: kernel for kernel in sass.parse(listing)}
    problems = []
    for name, kernel in kernels.items():
        if name in budgets:
            problems += check(kernel, budgets[name])
        else:
            problems.append(f"{name} has no budget")
    problems += [f"{name} is not there" for name in budgets if name not in kernels]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
