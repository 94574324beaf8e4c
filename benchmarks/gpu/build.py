#!/usr/bin/env python3
"""Compile every layer for GPUs and pack them with the script that runs them (docs/GPU.md).

    benchmarks/gpu/build.py -o moe-gpu.tar.gz

On the machine with a GPU: tar xf moe-gpu.tar.gz && python3 moe-gpu/benchmarks/gpu/run.py
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "python")]

import ours  # noqa: E402
from gpu import variants  # noqa: E402
from gpu.variants import Artifact, Variant  # noqa: E402
from machine import commit  # noqa: E402
from moe.artifact import find_compiler  # noqa: E402

LIMIT = 64 << 20  # bytes that may be carried
TOP = "moe-gpu"  # the folder in the archive, laid out as the checkout is
SCRIPTS = ("benchmarks/gpu/*.py", "benchmarks/cases.py", "benchmarks/data.py",
           "benchmarks/reference.py", "benchmarks/stats.py", "benchmarks/report.py",
           "benchmarks/peers/__init__.py", "benchmarks/peers/torch_common.py",
           "python/moe/__init__.py", "python/moe/artifact.py")
_ENTRY = re.compile(r"func\.func @layer\(\n(.*?)\)\s*-> \((.*?)\) \{\n", re.DOTALL)
_ARGUMENT = re.compile(r'(%\w+): (\S+) (\{(?:[^{}"]|"[^"]*")*\})')
_KERNEL = re.compile(r'Remark="(#moe\.gpu_[^"]*)"')


def roles_of(text: str) -> tuple[str, ...]:
    """Of data.shapes: the weights of a layer, in the order of its arguments."""
    entry = text[text.index("func.func @layer("):]  # behind the function that it calls, if any
    return tuple(ours.role_of(name) for name in re.findall(r'moe\.param = "([^"]+)"', entry))


def with_tokens(text: str, case, dtype: str, tokens: int) -> str:
    """The layer for one number of tokens: a function of static shape that calls the other."""
    found = _ENTRY.search(text)
    arguments = _ARGUMENT.findall(found.group(1)) if found else []
    if not arguments or len(arguments) != found.group(1).count("%"):
        raise ValueError(f"case {case.name}: the importer's function @layer is not understood")
    fixed = f"tensor<{tokens}x{case.hidden}x{dtype}>"
    (x, x_type, x_name), *weights = arguments
    y_type, y_name = re.fullmatch(r"(\S+) (\{.*\})", found.group(2)).groups()
    declared = ", ".join([f"{x}: {fixed} {x_name}",
                          *(f"{name}: {kind} {told}" for name, kind, told in weights)])
    names = ", ".join(["%any", *(name for name, _, _ in weights)])
    types = ", ".join([x_type, *(kind for _, kind, _ in weights)])
    return text.replace("func.func @layer(", "func.func private @any_tokens(", 1) + f"""
func.func @layer({declared}) -> ({fixed} {y_name}) {{
  %any = tensor.cast {x} : {fixed} to {x_type}
  %result = call @any_tokens({names}) : ({types}) -> {y_type}
  %y = tensor.cast %result : {y_type} to {fixed}
  return %y : {fixed}
}}
"""


def run_compiler(source: Path, output: Path, chips: Sequence[str]) -> list[str]:
    """The shared object; returns what became of each grouped matmul, chip after chip."""
    done = subprocess.run(
        [find_compiler(), source, "-o", output, "--target=nvptx", f"--chip={','.join(chips)}",
         "--remarks-filter-passed=MoESelectGPUStrategy"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"moe-compile failed on {source.stem}:\n{done.stderr}")
    return _KERNEL.findall(done.stderr)


def layer_text(variant: Variant) -> str:
    """The layer as it is compiled."""
    text = ours.layer_text(variant.case, variant.dtype)
    return (with_tokens(text, variant.case, variant.dtype, variant.tokens) if variant.tokens
            else text)


def compile_variant(variant: Variant, folder: Path) -> Artifact:
    """Compiles into the folder: NAME.so and NAME.h."""
    text, file = layer_text(variant), folder / f"{variant.name}.so"
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, f"{variant.name}.mlir")
        source.write_text(text)
        kernels = run_compiler(source, file, variant.chips)
    return Artifact(variant, file.name, variants.digest_of(file), roles_of(text), tuple(kernels))


def compile_all(wanted: Sequence[Variant], folder: Path, jobs: int = 0) -> None:
    """Artifacts and their manifest in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        made = list(pool.map(lambda variant: compile_variant(variant, folder), wanted))
    manifest = {"format": variants.FORMAT, "commit": commit(),
                "artifacts": [variants.to_json(artifact) for artifact in made]}
    (folder / variants.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def pack(artifacts: Path, output: Path) -> int:
    """An archive of the artifacts and all that run.py needs: the same bytes for the same files."""
    files = {f"artifacts/{file.name}": file for file in artifacts.iterdir()}
    for pattern in SCRIPTS:
        files |= {str(file.relative_to(ROOT)): file for file in ROOT.glob(pattern)
                  if file != Path(__file__).resolve()}
    memory = io.BytesIO()
    # Neither times nor owners, so that equal contents are equal archives.
    with gzip.GzipFile(fileobj=memory, mode="wb", filename="", mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, file in sorted(files.items()):
                content = file.read_bytes()
                entry = tarfile.TarInfo(f"{TOP}/{name}")
                entry.size, entry.mode = len(content), 0o755 if file.suffix == ".so" else 0o644
                archive.addfile(entry, io.BytesIO(content))
    if len(memory.getvalue()) > LIMIT:
        raise ValueError(f"the archive would have {len(memory.getvalue()) / 2**20:.1f} MiB, and "
                         f"{LIMIT >> 20} MiB can be carried: name fewer cases with --case")
    output.write_bytes(memory.getvalue())
    return len(memory.getvalue())


def main(arguments: list[str] | None = None) -> None:
    """Compiles all variants, or those of some cases and types."""
    known = variants.all_variants()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.tar.gz")
    parser.add_argument("--case", help="some of " + ",".join(dict.fromkeys(
        variant.case.name for variant in known)))
    parser.add_argument("--type", help="some of bf16,f32")
    parser.add_argument("--jobs", type=int, default=0, help="compilers at a time")
    chosen = parser.parse_args(arguments)
    for option, key in (("case", lambda v: v.case.name), ("type", lambda v: v.dtype)):
        names = getattr(chosen, option)
        for name in names.split(",") if names else ():
            if name not in map(key, known):
                parser.error(f"--{option}: {name!r} is none of "
                             f"{', '.join(sorted(set(map(key, known))))}")
        known = [v for v in known if not names or key(v) in names.split(",")]
    if not known:
        parser.error("no case is left: C is there in bf16 only")
    try:
        with tempfile.TemporaryDirectory() as folder:
            compile_all(known, Path(folder), chosen.jobs)
            size = pack(Path(folder), chosen.output)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"build.py: error: {error}")
    print(f"{chosen.output}: {len(known)} layers, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
