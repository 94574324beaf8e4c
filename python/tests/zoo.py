"""The zoo: a small random model of each family, imported, run, and compared with transformers.

    python zoo.py [FAMILY …]   compare all families, or some, and print what was measured
    python zoo.py --update     ... all, and write test/Zoo and docs/Zoo.md anew

The table `CASES` says what is particular about a family; the rest is the same for all: transformers
makes a model with small widths and random weights and saves it, moe-import reads that folder,
moe-run runs the layer on random hidden states, and the MoE block of the loaded model gives the
reference. Weights and hidden states are small integers times powers of two, so that the logits are
exact in any order of summation, and ids must be equal wherever the model's own keys have no tie.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
from moe import agreement  # noqa: E402

transformers.utils.logging.disable_progress_bar()
FAMILIES = ROOT / "tools/moe-import/families"
TOKENS, H, I, E, K = 48, 40, 24, 8, 3
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# What most configs call the sizes. Tokens that are none keep transformers from warning.
SIZES = {"hidden_size": H, "num_hidden_layers": 2, "vocab_size": 32, "num_attention_heads": 2,
         "num_key_value_heads": 2, "num_experts_per_tok": K, "max_position_embeddings": 16,
         "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
# The largest error of a token, relative to its largest value. In bf16 an exponential may cross a
# rounding boundary (2^-8); experts that transformers runs one by one ("eager") are added in the
# storage type, k roundings more: python/models/ROUNDING.md, section 1.
BOUNDS = {"f32": 1e-5, "bf16": 2.0**-7, "bf16 eager": 2.0**-6}


class Reference(NamedTuple):
    """What transformers computed: y, the ids, and the keys that chose them."""

    y: torch.Tensor  # T×H
    ids: torch.Tensor  # T×k, -1 where a choice was dropped
    keys: torch.Tensor  # T×E


class Case(NamedTuple):
    """What is particular about a family."""

    model: str  # transformers' name of the model; its config is called alike
    sizes: dict  # of the config, over SIZES
    block: str  # the MoE block in the model
    layer: int = 1
    router: str = "gate"  # in the block
    logits_at: int = 0  # among the router's outputs
    grouped: bool = True  # the experts run as "grouped_mm"; otherwise they can only run "eager"
    reference: Callable[[torch.nn.Module, torch.Tensor, Case], Reference] | None = None
    published: Callable[[str], bool] | None = None  # tensors that a published checkpoint has
    config: str = ""  # what transformers calls the config, when not like the model


@contextlib.contextmanager
def recorded(module: torch.nn.Module) -> Iterator[dict]:
    """The last inputs and outputs of `module`, while it is called."""
    record: dict = {}

    def hook(_module, inputs, output):
        record.update(inputs=inputs, outputs=output if isinstance(output, tuple) else (output,))
    handle = module.register_forward_hook(hook)
    try:
        yield record
    finally:
        handle.remove()


def call_block(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """The usual block: a router, and experts that are called on hidden states and ids."""
    with recorded(block.get_submodule(case.router)) as router, recorded(block.experts) as experts:
        y = block(hidden[None])
    y = y[0] if isinstance(y, tuple) else y
    return Reference(y.reshape(hidden.shape), experts["inputs"][1],
                     router["outputs"][case.logits_at].reshape(len(hidden), -1))


def call_llama4(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """All experts see all tokens, most of them times 0: the ids are those of the router."""
    with recorded(block.router) as router:
        y, logits = block(hidden[None])
    scores = router["outputs"][0].float()
    return Reference(y, torch.topk(scores, block.top_k).indices, logits)


def call_dbrx(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """The experts are chosen by probabilities that are rounded."""
    usual = call_block(block, hidden, case)
    return usual._replace(keys=torch.softmax(usual.keys, -1, dtype=hidden.dtype))


def call_switch(block: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """Ids come as one hot, none for a token that an expert has no room for."""
    with recorded(block.router) as router:
        y = block(hidden[None])
    chosen, _, logits = (output[0] for output in router["outputs"])
    ids = torch.where(chosen.sum(-1) > 0, chosen.argmax(-1), -1)
    keys = torch.softmax(logits, -1, dtype=torch.float32).to(hidden.dtype)
    return Reference(y[0], ids[:, None], keys)


def call_gemma4(layer: torch.nn.Module, hidden: torch.Tensor, case: Case) -> Reference:
    """The branch of the experts in a decoder layer, with its norms."""
    probabilities, weights, ids = layer.router(hidden)
    y = layer.experts(layer.pre_feedforward_layernorm_2(hidden), ids, weights)
    return Reference(layer.post_feedforward_layernorm_2(y), ids, probabilities)


CASES = {
    "mixtral": Case("Mixtral", {"intermediate_size": I, "num_local_experts": E},
                    "model.layers.1.mlp"),
    "olmoe": Case("Olmoe", {"intermediate_size": I, "num_experts": E}, "model.layers.1.mlp"),
    "qwen3_moe": Case("Qwen3Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "head_dim": 20, "num_experts": E,
        "norm_topk_prob": True, "mlp_only_layers": [0]}, "model.layers.1.mlp"),
    "deepseek_v3": Case("DeepseekV3", {
        "intermediate_size": 16, "moe_intermediate_size": I, "n_routed_experts": E, "n_group": 4,
        "topk_group": 2, "n_shared_experts": 2, "first_k_dense_replace": 1, "q_lora_rank": 8,
        "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16},
        "model.layers.1.mlp"),
    "qwen2_moe": Case("Qwen2Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "num_experts": E,
        "shared_expert_intermediate_size": 32}, "model.layers.1.mlp"),
    "deepseek_v2": Case("DeepseekV2", {
        "intermediate_size": 16, "moe_intermediate_size": I, "n_routed_experts": E, "n_group": 4,
        "topk_group": 2, "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0,
        "n_shared_experts": 2, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}, "model.layers.1.mlp"),
    "glm4_moe": Case("Glm4Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "n_routed_experts": E,
        "head_dim": 20, "routed_scaling_factor": 2.5}, "model.layers.1.mlp"),
    "jamba": Case("Jamba", {"intermediate_size": I, "num_experts": E}, "model.layers.1.feed_forward",
                  router="router"),
    "granitemoe": Case("GraniteMoe", {"intermediate_size": I, "num_local_experts": E},
                       "model.layers.1.block_sparse_moe", router="router"),
    "ernie4_5_moe": Case("Ernie4_5_Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "moe_num_experts": E, "moe_k": K,
        "num_experts_per_tok": K}, "model.layers.1.mlp"),
    "minimax_m2": Case("MiniMaxM2", {"intermediate_size": I, "num_local_experts": E,
                                     "head_dim": 20}, "model.layers.1.mlp"),
}

CASES |= {
    "gpt_oss": Case("GptOss", {"intermediate_size": I, "num_local_experts": E, "head_dim": 20,
                               "swiglu_limit": 1.5}, "model.layers.1.mlp", router="router"),
    "llama4": Case("Llama4", {
        "intermediate_size": I, "intermediate_size_mlp": 16, "num_local_experts": E,
        "head_dim": 20, "moe_layers": [1]}, "model.layers.1.feed_forward", router="router",
        logits_at=1, grouped=False, reference=call_llama4, config="Llama4Text"),
    "switch_transformers": Case("SwitchTransformers", {
        "d_model": H, "d_ff": I, "d_kv": 20, "num_heads": 2, "num_experts": E,
        "expert_capacity": 6, "num_layers": 2, "num_sparse_encoder_layers": 1,
        "num_decoder_layers": 2, "num_sparse_decoder_layers": 1},
        "encoder.block.1.layer.1.mlp", router="router.classifier", grouped=False,
        reference=call_switch),
    "longcat_flash": Case("LongcatFlash", {
        "num_hidden_layers": 4, "ffn_hidden_size": 16, "expert_ffn_hidden_size": I,
        "n_routed_experts": E, "zero_expert_num": 4, "moe_topk": K, "q_lora_rank": 8,
        "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "head_dim": 8,
        "v_head_dim": 16}, "model.layers.1.mlp", router="router", grouped=False,
        published=lambda name: not re.search(r"experts\.(8|9|10|11)\.", name)),
    "lfm2_moe": Case("Lfm2Moe", {
        "intermediate_size": 16, "moe_intermediate_size": I, "num_experts": E,
        "num_dense_layers": 1, "routed_scaling_factor": 1.5,
        "layer_types": ["full_attention", "full_attention"]}, "model.layers.1.feed_forward"),
    "dbrx": Case("Dbrx", {
        "d_model": H, "n_heads": 2, "n_layers": 2, "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": I, "moe_num_experts": E, "moe_top_k": K}},
        "transformer.blocks.1.ffn", router="router", grouped=False, reference=call_dbrx),
    "nemotron_h": Case("NemotronH", {
        "layers_block_type": ["full_attention", "moe"], "intermediate_size": 16, "head_dim": 20,
        "moe_intermediate_size": I, "moe_shared_expert_intermediate_size": 32,
        "moe_latent_size": 32, "n_routed_experts": E, "n_group": 4, "topk_group": 2},
        "model.layers.1.mixer"),
    "gemma4": Case("Gemma4", {
        "intermediate_size": 16, "moe_intermediate_size": I, "num_experts": E,
        "top_k_experts": K, "enable_moe_block": True, "head_dim": 20,
        "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 32}, "model.layers.1",
        router="router.proj", reference=call_gemma4, config="Gemma4Text"),
    "phimoe": Case("Phimoe", {"intermediate_size": I, "num_local_experts": E,
                              "num_experts_per_tok": 2}, "model.layers.1.mlp", router="router"),
}


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
    kind = getattr(transformers, f"{case.model}ForCausalLM", None)
    model = (kind or getattr(transformers, f"{case.model}ForConditionalGeneration"))(config)
    router = f"{case.block}.{case.router}."
    state = model.state_dict()
    with torch.no_grad():
        for path, tensor in state.items():
            if not tensor.is_floating_point():
                continue
            if path.endswith("bias") and dict(model.named_buffers()).get(path) is not None or \
                    "correction_bias" in path:
                value = torch.tensor(random.normal(size=tensor.shape) * 0.1)
            else:
                value = exact(random, tuple(tensor.shape),
                              2.0**-6 if path.startswith(router) else 2.0**-5)
            tensor.copy_(value)
    model.to(DTYPES[dtype])
    keep = [part for attribute in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
            for part in getattr(model, attribute, None) or ()]
    buffers = dict(model.named_buffers())  # transformers loads them as they are stored
    for path, tensor in (dict(model.named_parameters()) | buffers).items():
        if path in buffers or any(part in path for part in keep):
            tensor.data = tensor.data.float()
    return model


def save_model(name: str, dtype: str, folder: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    """A checkpoint in `folder`; the model that transformers loads from it, and hidden states."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    model = make_model(name, dtype, random)
    model.save_pretrained(folder)
    if CASES[name].published:
        file = folder / "model.safetensors"
        save_file({key: value for key, value in load_file(file).items()
                   if CASES[name].published(key)}, file)
        loaded = model
    else:
        loaded = type(model).from_pretrained(folder, dtype=DTYPES[dtype])
    hidden = exact(random, (TOKENS, H), 2.0**-4).to(DTYPES[dtype])
    return loaded.eval(), hidden


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


def run_layer(name: str, folder: Path, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y and ids of the imported layer on `hidden`."""
    layer, inputs, results = (folder / f for f in ("layer.mlir", "x.safetensors", "y.safetensors"))
    layer.write_text(import_layer(name, folder, "--routing"))
    save_file({"x": hidden}, inputs)
    run(tool("moe-run"), layer, "--weights", folder, "--input", f"{inputs}:x", "--output", results,
        "-O1")
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
    y, ids = run_layer(name, folder, hidden)
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


COLUMNS = ("family", "`model_type`", "error in f32", "error in bf16", "lines")


def table_row(name: str, results: dict[str, Agreement], text: str) -> list[str]:
    """A row of the table, without errors when there are no results."""
    family = re.search(r"^// (.+) \(model_type (\w+)\)", text, re.MULTILINE)
    assert family, f"{name}: the text does not begin as the header partial does"
    errors = [round_up(results[dtype].error) for dtype in DTYPES] if results else ["", ""]
    if not CASES[name].grouped:
        errors[1] += " (eager)"
    return [family[1], f"[`{family[2]}`](../test/Zoo/{name}.mlir)", *errors,
            str(count_lines(text))]


PAGE = """\
<!-- Written by python/tests/zoo.py --update; do not edit. -->

# The zoo

MoE layers of published models, as `moe-import` writes them, each compared with the block of
transformers: random weights, small widths, {tokens} tokens. Adding a model is a family file of a few
dozen lines and a line in `python/tests/zoo.py`, and no C++ ([Importing](Import.md) shows how).

| {columns} |
|{rule}
{rows}

* **error**: the largest max|y − ref| / max|ref of the token| over the tokens, rounded up to a power
  of two. The text rounds wherever the model rounds, so in bf16 the experts of transformers'
  `"grouped_mm"` give the same numbers, if every exponential rounds alike. *(eager)*: transformers
  runs these experts one by one only and adds their results in the storage type, k roundings more.
* **ids** are equal for every token whose k-th and next selection keys differ in the model's own
  rounding; others were not compared.
* **lines**: of the text in bf16, without comments and blank lines.

What has no row: Mamba, attention and dense layers are not the importer's business; jitter and
dropout of training are not imported. What a family refuses (other activations, biases that no
published model of it has) it names when it is asked to.
"""


def page(rows: list[list[str]]) -> str:
    """docs/Zoo.md."""
    return PAGE.format(tokens=TOKENS, columns=" | ".join(COLUMNS), rule="---|" * len(COLUMNS),
                       rows="\n".join(f"| {' | '.join(row)} |" for row in rows))


def update(results: dict[str, dict[str, Agreement]], folders: dict[str, Path]) -> None:
    """Write test/Zoo and docs/Zoo.md from what was measured, and bf16 checkpoints."""
    rows = []
    for name, folder in folders.items():
        text = zoo_text(name, folder)
        (ROOT / f"test/Zoo/{name}.mlir").write_text(text)
        (ROOT / f"test/Zoo/Inputs/{name}.json").write_text(zoo_config(folder))
        rows.append(table_row(name, results[name], import_layer(name, folder)))
    (ROOT / "docs/Zoo.md").write_text(page(rows))


def main() -> int:
    """Compare all families, or those that are named."""
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
