"""Makes the library that moe_emulating_driver launches from: a layer's kernels as host code.

usage: emulate_kernels.py MOE_OPT LAYER.mlir CHIP OUTPUT.so

The kernels are those of `moe-gpu-lowering`, the IR that goes to NVPTX, under the names that
moe-compile and moe-run give them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))

from moe import emulation  # noqa: E402


def run(command: list[str], text: bytes = b"") -> bytes:
    """Standard output of a program; its errors end this one."""
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"error: {command[0]} fails: {done.stderr.decode()}")
    return done.stdout


def make(moe_opt: str, layer: str, chip: str, output: str) -> None:
    """The library, at `output`."""
    passes = f"inline,moe-prepare-entry,symbol-dce,moe-gpu-lowering{{chip={chip}}}"
    text = run([moe_opt, layer, f"--pass-pipeline=builtin.module({passes})"]).decode()
    host = run([moe_opt, "--moe-emulate-nvvm"], emulation.kernels_of(text).encode())
    ir = run(["mlir-translate-22", "--mlir-to-llvmir", "--allow-unregistered-dialect"], host)
    lib = emulation.build_folder() / "lib"
    run(["clang-22", "-x", "ir", "-", "-O1", "-w", "-fPIC", "-shared", "-o", output, f"-L{lib}",
         f"-Wl,-rpath,{lib}", "-lmoe_emulation"], ir)


def main() -> None:
    make(*sys.argv[1:])


if __name__ == "__main__":
    main()
