"""The main job: import, compile, run and compare the MoE layers of the two small models.

    python python/demo.py          (scripts/demo calls it; numpy and matplotlib, no torch)

For each MoE layer of test/Models: moe-import writes its IR, moe-run compiles it and runs it on
the hidden states of held-out data, and the result is compared with what transformers or torch
computed (committed in test/Models/*/references). Prints a table, writes the picture of which
expert serves which class, and fails when a layer disagrees.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from moe import agreement, heatmap, specialization, tensors

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "build/bin"
OUT = ROOT / "build/demo"


class Model(NamedTuple):
    """A checkpoint of test/Models. `bound` is of agreement.error."""

    name: str
    title: str
    import_flags: tuple[str, ...]
    # f32: the bound. bf16: y is a sum of k = 2 rows; the reference rounds each partial
    # sum to bf16 and ours only the last, which is at most one unit of 2⁻⁸ of the larger row.
    bound: float


MODELS = (
    Model("bytes", "byte model", (), 2.0 ** -7),
    Model("digits", "digits", ("--family", str(ROOT / "test/Models/digits/moe_digits.family")),
          1e-5),
)


class Result(NamedTuple):
    """A line of the table, and what the picture needs."""

    model: Model
    layer: int
    experts: int
    top_k: int
    dtype: str
    error: float
    routing: agreement.Routing
    compile_seconds: float
    run_seconds: float
    panel: heatmap.Panel
    information: specialization.Information

    def agrees(self) -> bool:
        """Within the bound, and every other id explained by a tie."""
        return self.error <= self.model.bound and self.routing.wrong == 0


def tool(name: str, *arguments: object) -> None:
    """Runs a tool of the build; its own message says what is wrong when it fails."""
    command = [str(TOOLS / name), *map(str, arguments)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"demo: {' '.join(command)}\n{result.stdout}{result.stderr}")


def run_layer(model: Model, layer: int, folder: Path) -> Result:
    """Runs one imported layer on the reference's hidden states and compares."""
    checkpoint = ROOT / "test/Models" / model.name
    reference_file = checkpoint / f"references/layer_{layer}.safetensors"
    reference, metadata = tensors.load(reference_file)
    outputs = {name: folder / f"layer_{layer}.{name}.npy" for name in ("y", "ids")}
    report = folder / f"layer_{layer}.json"
    tool("moe-run", folder / f"layer_{layer}.mlir", "--weights", checkpoint,
         "--input", f"{reference_file}:hidden", "--json", report,
         *(flag for name, path in outputs.items() for flag in ("--output", f"{name}={path}")))
    y, ids = np.load(outputs["y"]), np.load(outputs["ids"])
    seconds = json.loads(report.read_text())["seconds"]
    classes = tuple(metadata["classes"].split(","))
    keys = reference["router_logits"]
    routing = agreement.routing(ids, reference["ids"], keys)
    # A tie may send a token to another expert, rightly; what that gives is not comparable.
    same = (np.sort(ids) == np.sort(reference["ids"])).all(-1)
    labels, experts = reference["labels"], keys.shape[1]
    title = f"{model.title}, layer {layer}"
    return Result(
        model, layer, experts, ids.shape[1], "bf16" if model.name == "bytes" else "f32",
        agreement.error(y[same], reference["y"][same]), routing, seconds["compile"],
        seconds["first_call"],
        heatmap.Panel(title, specialization.joint(labels, ids, len(classes), experts), classes,
                      ids.shape[1]),
        specialization.information(labels, ids, len(classes), experts))


def run_model(model: Model) -> list[Result]:
    """Imports a model and runs each of its MoE layers."""
    folder = OUT / model.name
    folder.mkdir(parents=True, exist_ok=True)
    tool("moe-import", ROOT / "test/Models" / model.name, "-o", folder, "--routing",
         *model.import_flags)
    layers = sorted(folder.glob("layer_*.mlir"), key=lambda path: int(path.stem[6:]))
    return [run_layer(model, int(path.stem[6:]), folder) for path in layers]


def print_table(results: list[Result]) -> None:
    """One line a layer."""
    print(f"{'layer':22} {'type':>4} {'tokens':>6} {'experts':>7} {'k':>2} {'max error':>10} "
          f"{'bound':>8} {'ids equal':>9} {'ties':>4} {'compile':>8} {'run':>9} {'MI (bits)':>18}")
    for r in results:
        print(f"{r.model.title + ', layer ' + str(r.layer):22} {r.dtype:>4} {r.routing.tokens:6} "
              f"{r.experts:7} {r.top_k:2} {r.error:10.1e} {r.model.bound:8.1e} "
              f"{r.routing.equal:9} {r.routing.tied:4} {r.compile_seconds:6.2f} s "
              f"{1e3 * r.run_seconds:6.2f} ms {r.information.bits:6.2f} (chance "
              f"{r.information.chance:.2f})" + ("" if r.agrees() else "  DISAGREES"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--started", type=float, default=time.time(),
                        help="when the command that called this began, in seconds since 1970")
    arguments = parser.parse_args()
    results = [result for model in MODELS for result in run_model(model)]
    picture = OUT / "specialization.png"
    heatmap.save(picture, [result.panel for result in results])
    print_table(results)
    print(f"which expert serves what: {picture.relative_to(ROOT)}")
    print(f"{time.time() - arguments.started:.0f} s since the command began, set-up included")
    return 0 if all(result.agrees() for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
