"""Lowers the layers of the zoo as far as kernels and fails where some of a router is left.

usage: check_zoo_routers.py MOE_OPT LAYER.mlir…

Prints a line a layer, with its kernels for routing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PASSES = ["--moe-fuse", "--convert-elementwise-to-linalg",
          "--one-shot-bufferize=bufferize-function-boundaries "
          "function-boundary-type-conversion=identity-layout-map",
          "--canonicalize", "--moe-lower-to-gpu", "--moe-lower-kernels",
          "--remarks-filter-missed=MoELowerToGPU"]


def main() -> None:
    """Checks all layers."""
    moe_opt, *layers = sys.argv[1:]
    for layer in map(Path, layers):
        done = subprocess.run([moe_opt, layer, *PASSES], capture_output=True, text=True, check=False)
        left = re.findall(r"moe\.(?:route|gate|plan) [^\n]*", re.sub(r'"[^"\n]*"', "", done.stdout))
        if done.returncode or left or "gpu-routing" in done.stderr:
            sys.exit(f"error: {layer.stem}: {left[:1]} is left\n{done.stderr}")
        kernels = re.findall(r"llvm\.func @layer_(\w+)\(", done.stdout)
        print(f"{layer.stem}: {' '.join(kernels)}")


if __name__ == "__main__":
    main()
