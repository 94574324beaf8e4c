"""The zoo: a small random model of each family, imported, run, and compared with transformers.

    python zoo.py [FAMILY …]   compare all families, or some, and print what was measured
    python zoo.py --update     ... all, and write test/Zoo and docs/Zoo.md anew
    python zoo.py --fused      only what the passes make of test/Zoo, into the tables of docs/Zoo.md

zoo_cases.py says what is particular about a family; the rest is the same for all: transformers
makes a model with small widths and random weights and saves it, moe-import reads that folder,
moe-run runs the layer on random hidden states, and the MoE block of the loaded model gives the
reference. Weights and hidden states are small integers times powers of two, so that the logits are
exact in any order of summation, and ids must be equal wherever the model's own keys have no tie.
"""

from __future__ import annotations

import collections
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.core_model_loading import revert_weight_conversion

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
from moe import agreement  # noqa: E402
from beyond import count_router_lines  # noqa: E402
from zoo_cases import BEYOND, CASES, MISSING, SIZES, E, H, call_block  # noqa: E402

transformers.utils.logging.disable_progress_bar()
FAMILIES = ROOT / "tools/moe-import/families"
TOKENS = 48
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# The largest error of a token, relative to its largest value. In bf16 an exponential may cross a
# rounding boundary (2^-8); experts that transformers runs one by one ("eager") are added in the
# storage type, k roundings more: python/models/ROUNDING.md, section 1.
BOUNDS = {"f32": 1e-5, "bf16": 2.0**-7, "bf16 eager": 2.0**-6}


#
# The model.
#


def exact(random: np.random.Generator, shape: tuple[int, ...], step: float) -> torch.Tensor:
    """Small integers times `step`."""
    return torch.tensor(random.integers(-16, 17, shape) * step, dtype=torch.float32)


def make_model(name: str, dtype: str, random: np.random.Generator) -> torch.nn.Module:
    """A model of the family, with weights that multiply exactly."""
    case = CASES[name]
    config = getattr(transformers, f"{case.config or case.model}Config")(**(SIZES | case.sizes))
    model = getattr(transformers, f"{case.model}{case.kind}")(config)
    router = f"{case.block}.{case.router}."
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for path, tensor in model.state_dict().items():
            if "correction_bias" in path or path in buffers:
                tensor.copy_(torch.tensor(random.normal(size=tensor.shape) * 0.1))
            elif tensor.is_floating_point():
                step = 2.0**-6 if path.startswith(router) else 2.0**-5
                tensor.copy_(exact(random, tuple(tensor.shape), step))
    model.to(DTYPES[dtype])
    keep = [part for attribute in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
            for part in getattr(model, attribute, None) or ()]
    buffers = dict(model.named_buffers())  # transformers loads them as they are stored
    for path, tensor in (dict(model.named_parameters()) | buffers).items():
        if path in buffers or any(part in path for part in keep):
            tensor.data = tensor.data.float()
    return model


def is_identity(tensor: str, experts: int) -> bool:
    """Whether the name is that of a tensor of an expert beyond the first `experts`."""
    number = re.search(r"\.experts\.(\d+)\.", tensor)
    return bool(number) and int(number[1]) >= experts


def save_model(name: str, dtype: str, folder: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    """A checkpoint in `folder`; the model that transformers loads from it, and hidden states."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    model = make_model(name, dtype, random)
    model.save_pretrained(folder)
    loaded = type(model).from_pretrained(folder, dtype=DTYPES[dtype])
    if CASES[name].identities:
        file = folder / "model.safetensors"
        save_file({key: value for key, value in load_file(file).items()
                   if not is_identity(key, E)}, file)
    hidden = exact(random, (TOKENS, H), 2.0**-4).to(DTYPES[dtype])
    return loaded.eval(), hidden


def save_published(name: str, folder: Path) -> int:
    """A checkpoint of published size whose data is a hole; the number of its MoE blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    case = CASES[name]
    config = getattr(transformers, f"{case.config or case.model}Config")(**case.published)
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = getattr(transformers, f"{case.model}{case.kind}")(config)
    buffers = dict(model.named_buffers())
    header, end = {}, 0
    for key, tensor in revert_weight_conversion(model, model.state_dict()).items():
        if case.identities and is_identity(key, config.n_routed_experts):
            continue
        begin, end = end, end + tensor.numel() * (4 if key in buffers else 2)
        header[key] = {"dtype": "F32" if key in buffers else "BF16", "shape": list(tensor.shape),
                       "data_offsets": [begin, end]}
    config.save_pretrained(folder)
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    path = re.sub(r"\\\.\d+", r"\\.\\d+", re.escape(case.block))
    router = case.router.partition(".")[0]
    kind = next(type(module) for key, module in model.named_modules()
                if re.fullmatch(path, key) and hasattr(module, router))
    return sum(isinstance(module, kind) and hasattr(module, router) for module in model.modules())


#
# Our side.
#


def tool(name: str) -> str:
    """A tool of this project: from the PATH, then from the build folder."""
    return shutil.which(name) or str(ROOT / "build/bin" / name)


def run(*command: str | Path) -> str:
    """Standard output of a command, which must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def import_layer(name: str, folder: Path, *options: str) -> str:
    """The text of the family's MoE layer."""
    return run(tool("moe-import"), folder, "--families", FAMILIES, "--layer",
               str(CASES[name].layer), "-o", "-", *options)


def run_layer(name: str, folder: Path, hidden: torch.Tensor,
              optimize: str = "-O0") -> tuple[torch.Tensor, torch.Tensor]:
    """y and ids of the imported layer on `hidden`."""
    layer, inputs, results = (folder / f for f in ("layer.mlir", "x.safetensors", "y.safetensors"))
    layer.write_text(import_layer(name, folder, "--routing"))
    save_file({"x": hidden}, inputs)
    run(tool("moe-run"), layer, "--weights", folder, "--input", f"{inputs}:x", "--output", results,
        optimize)
    made = load_file(results)
    return made["y"], made["ids"]


#
# The comparison.
#


class Agreement(NamedTuple):
    """How one layer compares with its model."""

    error: float  # over the tokens that are decided; of "grouped_mm" where that can be had
    bound: float
    eager_error: float  # the same for experts that run one by one
    eager_bound: float
    differing: float  # the share of elements that are not equal, of `error`
    wrong_ids: int  # decided tokens with other ids
    decided: int  # tokens without a tie between the k-th and the next key

    def is_good(self) -> bool:
        """Whether all is within the bounds, on enough tokens."""
        return (self.error <= self.bound and self.eager_error <= self.eager_bound
                and not self.wrong_ids and self.decided > TOKENS // 2)


def decide(keys: torch.Tensor, k: int) -> np.ndarray:
    """Which tokens have no tie between the k-th and the next key."""
    keys = torch.sort(keys.float(), -1, descending=True).values.numpy()
    return keys[:, k - 1] != keys[:, k]


def compare(name: str, dtype: str, folder: Path) -> Agreement:
    """Import, run and compare one family in one type; files are left in `folder`."""
    case = CASES[name]
    model, hidden = save_model(name, dtype, folder)
    y, ids = run_layer(name, folder, hidden, "-O0" if dtype == "f32" else "-O2")
    bounds = [BOUNDS[dtype], BOUNDS["bf16 eager" if dtype == "bf16" else dtype]]
    errors, differing = [], []
    for experts in ("grouped_mm", "eager"):
        if case.grouped:
            model.set_experts_implementation(experts)
        with torch.no_grad():
            want = (case.reference or call_block)(model.get_submodule(case.block), hidden, case)
        sure = decide(want.keys, ids.shape[-1])
        mine, theirs = (tensor.float().numpy()[sure] for tensor in (y, want.y))
        errors.append(agreement.error(mine, theirs))
        differing.append(float((mine != theirs).mean()))
    same = (torch.sort(ids, -1).values == torch.sort(want.ids, -1).values) | (want.ids < 0)
    return Agreement(errors[0], bounds[0 if case.grouped else 1], errors[1], bounds[1],
                     differing[0], int((~same.all(-1).numpy() & sure).sum()), int(sure.sum()))


#
# What is kept in the repository.
#


RUN_LINES = """\
// RUN: %python %S/Inputs/make_checkpoint.py %s %t
// RUN: moe-import %t --layer LAYER -o - | diff %t/layer.mlir -
// RUN: moe-opt %s --verify-roundtrip | moe-opt --moe-decompose | FileCheck %s
// RUN: moe-opt %s --moe-general-lowering -o /dev/null
// CHECK: func.func @layer
// CHECK-NOT: {{(= |  )moe[.]}}
"""


def zoo_text(name: str, folder: Path) -> str:
    """The file of test/Zoo for the checkpoint in `folder`."""
    return RUN_LINES.replace("LAYER", str(CASES[name].layer)) + "\n" + import_layer(name, folder)


def zoo_config(folder: Path) -> str:
    """The configuration of the checkpoint in `folder`, as test/Zoo/Inputs has it."""
    return (folder / "config.json").read_text()


def count_lines(text: str) -> int:
    """Lines of a layer that are neither blank nor comments."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("//")
               for line in text.splitlines())


def round_up(error: float) -> str:
    """An error as a power of two that it does not exceed, or 0."""
    return f"2^{math.ceil(math.log2(error))}" if error else "0"


COLUMNS = ("family", "`model_type`", "imports", "error in f32", "error in bf16", "lines", "its own")
# What fuses a layer, in this order; the page has these columns from the day on that all are there.
FUSION = ("moe-expert-to-grouped-matmul", "moe-fuse-dispatch", "moe-fuse-routing",
          "moe-fuse-combine")
FUSED_COLUMNS = ("one route op", "body fused")


def can_fuse() -> bool:
    """Whether moe-opt has all the passes that fuse a layer."""
    known = run(tool("moe-opt"), "--help")
    return all(f"--{name} " in known for name in FUSION)


def count_ops(text: str) -> collections.Counter[str]:
    """How many ops of the dialect there are of each kind."""
    return collections.Counter(re.findall(r"(?:= |^ +)moe\.(\w+)", text, re.MULTILINE))


def fused_cells(name: str) -> list[str]:
    """What the passes make of the text of test/Zoo, for `FUSED_COLUMNS`."""
    text = run(tool("moe-opt"), ROOT / f"test/Zoo/{name}.mlir", *(f"--{p}" for p in FUSION))
    ops = count_ops(text)
    routed = ops["route"] == 1 and not ops["gate"] + ops["plan"] + ops["dispatch"]
    if routed == (name in MISSING):
        raise ValueError(f"{name}: is {'' if routed else 'not '}routed by one op; zoo_cases.MISSING "
                         "says what the others need")
    return ["yes" if routed else f"no: {MISSING[name]}",
            "no" if ops["expert"] else f"{ops['grouped_matmul']} stages"]


def is_fused(row: list[str]) -> bool:
    """Whether the last two cells say that routing and experts are fused."""
    return row[-2] == "yes" and row[-1].endswith("stages")


def beyond_row(name: str) -> list[str]:
    """A row of the table of routers beyond transformers."""
    text = (ROOT / f"test/Zoo/Beyond/{name}.mlir").read_text()
    return [f"[{BEYOND[name]}](../test/Zoo/Beyond/{name}.mlir)", str(count_router_lines(text)),
            *fused_cells(f"Beyond/{name}")]


def import_published(name: str, folder: Path) -> str:
    """What is imported of the checkpoint that `save_published` left in `folder`."""
    said = run(tool("moe-import"), folder, "--families", FAMILIES, "--dry-run")
    several = re.search(r"\((\d+)\)\s*$", said)
    return f"{several[1]} layers" if several else "1 layer"


def table_row(name: str, results: dict[str, Agreement], imported: str, text: str) -> list[str]:
    """A row of the table, without errors when there are no results."""
    family = re.search(r"^// (.+) \(model_type (\w+)\)", text, re.MULTILINE)
    assert family, f"{name}: the text does not begin as the header partial does"
    template = (FAMILIES / f"{name}.family").read_text().partition("\n---\n")[2]
    errors = [round_up(results[dtype].error) for dtype in DTYPES] if results else ["", ""]
    if not CASES[name].grouped:
        errors[1] += " (eager)"
    return [family[1], f"[`{family[2]}`](../test/Zoo/{name}.mlir)", imported,
            *errors, str(count_lines(text)), str(count_lines(template))]


PAGE = """\
<!-- Written by python/tests/zoo.py --update; do not edit. -->

# The zoo

MoE layers of published models, as `moe-import` writes them, each compared with the block of
transformers: random weights, small widths, {tokens} tokens. Adding a model is a family file of a few
dozen lines and a line in `python/tests/zoo_cases.py`, and no C++ ([Importing](Import.md) shows how).

| {columns} |
|{rule}
{rows}

* **imports**: how many MoE layers of a checkpoint of published size, with the configuration that
  transformers has by default; those that transformers makes MoE layers of.
* **error**: the largest max|y − ref| / max|ref of the token| over the tokens, rounded up to a power
  of two. The text rounds wherever the model rounds, so in bf16 the experts of transformers'
  `"grouped_mm"` give the same numbers, if every exponential rounds alike. *(eager)*: transformers
  runs these experts one by one only and adds their results in the storage type, k roundings more.
* **ids** are equal for every token whose k-th and next selection keys differ in the model's own
  rounding; others were not compared.
* **lines**: of the text in bf16, without comments and blank lines; **its own**: of the family file's
  template, which puts the text together from parts that families share.
{fused}
## Beyond transformers

Complete layers with routers that transformers does not have, each compared with a float64 reference
that is written from the paper (`python/tests/beyond.py`). **Lines** are those of the router.

| router | lines | one route op | body fused |
|---|---|---|---|
{beyond}

## How much is fused

{count} of these {all} layers are fully fused: one `moe.route`, and grouped matmuls for the experts.
In the others the experts are grouped matmuls too, behind a `moe.plan` of the ids that the router
makes in its own way; the table says what `moe.route` does not have for it, and `moe-fuse-routing`
says so in a remark.

The texts above round wherever a model rounds, each time in a line of its own. What a person writes
is shorter: a SwiGLU expert in bf16 [takes 15 lines](Tutorials/YourOwnBody.md#swiglu-in-15-lines), a
router that nobody has used [takes 9](Tutorials/YourOwnRouter.md#a-router-in-9-lines).

What has no row: Mamba, attention and dense layers are not the importer's business; jitter and
dropout of training are not imported. What a family refuses (other activations, biases that no
published model of it has) it names when it is asked to.
"""


FUSED_NOTE = """\
* **one route op**, **body fused**: whether `moe.route` does all of the routing, and in how many
  `moe.grouped_matmul` the experts are, after the passes that fuse a layer.
"""


def page(rows: list[list[str]]) -> str:
    """docs/Zoo.md."""
    columns = (COLUMNS + FUSED_COLUMNS)[:len(rows[0])]
    fused = FUSED_NOTE if len(columns) > len(COLUMNS) else ""
    beyond = [beyond_row(name) for name in BEYOND]

    def lines(table: list[list[str]]) -> str:
        return "\n".join(f"| {' | '.join(row)} |" for row in table)

    return PAGE.format(tokens=TOKENS, fused=fused, columns=" | ".join(columns),
                       rule="---|" * len(columns), rows=lines(rows), beyond=lines(beyond),
                       count=sum(map(is_fused, rows + beyond)), all=len(rows + beyond))


def documented_row(name: str) -> list[str]:
    """The row of docs/Zoo.md for a family."""
    text = (ROOT / "docs/Zoo.md").read_text()
    row = next(line for line in text.splitlines() if f"test/Zoo/{name}.mlir)" in line)
    return [cell.strip() for cell in row.strip("|").split("|")]


def update_fused() -> None:
    """Write the columns of docs/Zoo.md that say what is fused, and print them."""
    rows = [documented_row(name)[:len(COLUMNS)] + fused_cells(name) for name in CASES]
    (ROOT / "docs/Zoo.md").write_text(page(rows))
    for row in rows:
        print(f"{row[0]}: {', '.join(row[len(COLUMNS):])}")


def update(results: dict[str, dict[str, Agreement]], folders: dict[str, Path]) -> None:
    """Write test/Zoo and docs/Zoo.md from what was measured, and bf16 checkpoints."""
    rows = []
    for name, folder in folders.items():
        text = zoo_text(name, folder)
        (ROOT / f"test/Zoo/{name}.mlir").write_text(text)
        (ROOT / f"test/Zoo/Inputs/{name}.json").write_text(zoo_config(folder))
        save_published(name, folder.parent / "published")
        imported = import_published(name, folder.parent / "published")
        row = table_row(name, results[name], imported, import_layer(name, folder))
        rows.append(row + (fused_cells(name) if can_fuse() else []))
    (ROOT / "docs/Zoo.md").write_text(page(rows))


def main() -> int:
    """Compare all families, or those that are named."""
    if "--fused" in sys.argv:
        update_fused()
        return 0
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(CASES)
    results: dict[str, dict[str, Agreement]] = {name: {} for name in names}
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            for dtype in DTYPES:
                got = results[name][dtype] = compare(name, dtype, Path(root) / name / dtype)
                print(f"{'agrees' if got.is_good() else 'DIFFERS'}: {name} {dtype}: {got}",
                      flush=True)
        good = all(got.is_good() for each in results.values() for got in each.values())
        if "--update" in sys.argv and good and len(names) == len(CASES):
            update(results, {name: Path(root) / name / "bf16" for name in names})
    return not good


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
