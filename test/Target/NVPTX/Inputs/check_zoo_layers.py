"""Runs layers of the zoo on the emulating driver and compares them with what the CPU computes.

usage: check_zoo_layers.py TOOLS DRIVER.so CHIP FOLDER LAYER.mlir…

moe-run compiles each layer for CHIP, of which the driver has a device, with tokens that few-token
kernels take and some more; --check compiles it for the CPU as well. FOLDER is for what is made on
the way. Prints a line a layer: its kernels in the order of their launches, and the time it took.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import emulate_kernels

TOKENS = (3, 21)


def run(tools: Path, layer: Path, environment: dict[str, str], tokens: int) -> None:
    """One call of moe-run, with a seed of its own."""
    width = re.search(r"%x: !x \{moe.name|!x = tensor<\?x(\d+)x", layer.read_text()).group(1)
    command = [tools / "moe-run", layer, "--random-weights", f"--shape=x={tokens}x{width}",
               f"--seed={tokens}", "--device=cuda", "--check"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"error: {layer.stem}, {tokens} tokens:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Checks all layers."""
    tools, driver, chip, folder, *layers = sys.argv[1:]
    arch = re.sub(r"\D", "", chip)
    for layer in map(Path, layers):
        start = time.monotonic()
        kernels = Path(folder) / f"{layer.stem}.{arch}.so"
        log = kernels.with_suffix(".log")
        log.unlink(missing_ok=True)
        emulate_kernels.make(str(Path(tools) / "moe-opt"), str(layer), chip, str(kernels))
        environment = {"MOE_CUDA_DRIVER": driver, "MOE_EMULATED_KERNELS": str(kernels),
                       "MOE_EMULATED_CHIP": arch, "MOE_EMULATED_LOG": str(log)}
        for tokens in TOKENS:
            run(Path(tools), layer, environment, tokens)
        lines = log.read_text().splitlines()
        if not lines[0].startswith(("loads PTX for " + chip, "loads a cubin for sm_" + arch)):
            sys.exit(f"error: {layer.stem}: {lines[0]}, want code for {chip}")
        names = dict.fromkeys(re.sub(r":.*", "", n).removeprefix("layer_")
                              for n in lines if "blocks" in n)
        print(f"{layer.stem}: {' '.join(names)}", flush=True)
        print(f"{layer.stem}, {chip}: {time.monotonic() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
