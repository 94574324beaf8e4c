"""Import small random models that transformers saved, compile their layers, compare the results.

    python agree_with_transformers.py MOE_IMPORT MOE_COMPILE FOLDER

One model a family, in bfloat16 and in float32, with random weights: what moe-import makes of the
checkpoint is run on random hidden states and compared with the MoE block of transformers, under
both of its ways to run experts. Weights and hidden states are small integers times powers of two,
so that the logits are exact in any order of summation: what could differ are the rounding points.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))
from moe import agreement, artifact, tensors  # noqa: E402

TOKENS = 64
SIZES = {"hidden_size": 40, "num_hidden_layers": 2, "vocab_size": 32, "num_attention_heads": 2,
         "num_key_value_heads": 2, "num_experts_per_tok": 3, "max_position_embeddings": 16,
         "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
MODELS = {
    "mixtral": ("Mixtral", {"intermediate_size": 24, "num_local_experts": 8}),
    "olmoe": ("Olmoe", {"intermediate_size": 24, "num_experts": 8}),
    "qwen3_moe": ("Qwen3Moe", {"intermediate_size": 16, "moe_intermediate_size": 24, "head_dim": 20,
                               "num_experts": 8, "norm_topk_prob": True, "mlp_only_layers": [0]}),
    "deepseek_v3": ("DeepseekV3", {
        "intermediate_size": 16, "moe_intermediate_size": 24, "n_routed_experts": 8, "n_group": 4,
        "topk_group": 2, "n_shared_experts": 2, "first_k_dense_replace": 1, "q_lora_rank": 8,
        "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}),
}
# Error: max over tokens of max|y - ref| / max|ref of that token|. In bfloat16 an exponential may
# cross a rounding boundary (2^-8), and "eager" makes k more roundings of 2^-9 each: see
# python/models/ROUNDING.md, section 1.
BOUNDS = {"grouped_mm": {torch.bfloat16: 2.0**-7, torch.float32: 1e-5},
          "eager": {torch.bfloat16: 2.0**-6, torch.float32: 1e-5}}
# Of all elements, under "grouped_mm", which adds as we do but for the order.
MOST_DIFFERING = 0.01


def exact(random: np.random.Generator, shape: tuple[int, ...], step: float) -> torch.Tensor:
    """Small integers times `step`."""
    return torch.tensor(random.integers(-16, 17, shape) * step, dtype=torch.float32)


def make_model(family: str, dtype: torch.dtype, random: np.random.Generator) -> torch.nn.Module:
    """A model of the family, with weights that multiply exactly."""
    name, sizes = MODELS[family]
    config = getattr(transformers, f"{name}Config")(**(SIZES | sizes))
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            step = 2.0**-6 if "mlp.gate.weight" in path else 2.0**-5
            parameter.copy_(exact(random, tuple(parameter.shape), step))
    model = model.to(dtype)
    for path, buffer in model.named_buffers():  # stays in f32 in a model, too
        if path.endswith("e_score_correction_bias"):
            owner = model.get_submodule(path.rpartition(".")[0])
            bias = torch.tensor(random.normal(size=buffer.shape) * 0.1, dtype=torch.float32)
            owner.e_score_correction_bias = torch.nn.Buffer(bias)
    return model


def run_block(block: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """y of the block, T×H."""
    with torch.no_grad():
        y = block(hidden[None])
    return (y[0] if isinstance(y, tuple) else y).reshape(hidden.shape)


def decided(block: torch.nn.Module, hidden: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """Which tokens have no tie between the k-th and the (k+1)-th expert."""
    gate = dict(block.named_parameters())["gate.weight"].detach().float()
    keys = hidden.float() @ gate.T
    if "e_score_correction_bias" in dict(block.gate.named_buffers()):
        return np.ones(len(hidden), bool)  # f32 scores with a random bias
    keys = torch.sort(keys.to(dtype).float(), -1, descending=True).values.numpy()
    return keys[:, 2] != keys[:, 3]


def run_layer(folder: Path, hidden: torch.Tensor) -> np.ndarray:
    """The imported, compiled layer 1 on `hidden`."""
    text = (folder / "out/layer_1.mlir").read_text()
    weights, _ = tensors.load(folder / "model.safetensors")

    def get(name: str) -> np.ndarray:
        if "{expert}" not in name:
            return weights[name]
        return np.stack([weights[name.replace("{expert}", str(e))] for e in range(8)])

    names = re.findall(r'%\w+: !(\w+) \{moe\.param = "([^"]+)"\}', text)
    arguments = [hidden.float().numpy()] + [get(name) for _, name in names]
    kinds = ["bf16" if hidden.dtype == torch.bfloat16 else "f32"] * len(arguments)
    for position, (kind, _) in enumerate(names):
        if kind == "bias":
            kinds[position + 1] = "f32"
    stored = [np.ascontiguousarray(tensors.bf16_bits(a) if kind == "bf16" else a)
              for a, kind in zip(arguments, kinds)]
    y = np.zeros_like(stored[0])
    layer = artifact.Artifact(folder / "layer.so", "layer")
    layer(*map(artifact.view, stored, kinds), artifact.view(y, kinds[0]))
    return tensors.from_bf16_bits(y) if kinds[0] == "bf16" else y


def compare(family: str, dtype: torch.dtype, random: np.random.Generator, folder: Path) -> bool:
    """Whether one model's layer agrees with transformers; prints a line for each of its ways."""
    model = make_model(family, dtype, random)
    model.save_pretrained(folder)
    moe_import, moe_compile = sys.argv[1:3]
    subprocess.run([moe_import, folder, "--layer", "1", "-o", folder / "out"], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run([moe_compile, folder / "out/layer_1.mlir", "-o", folder / "layer.so"],
                   check=True, stderr=subprocess.DEVNULL)
    hidden = exact(random, (TOKENS, SIZES["hidden_size"]), 2.0**-4).to(dtype)
    y = run_layer(folder, hidden)
    block = model.model.layers[1].mlp
    sure = decided(block, hidden, dtype)
    all_good = sure.sum() > TOKENS // 2
    for experts, bounds in BOUNDS.items():
        model.set_experts_implementation(experts)
        reference = run_block(block, hidden).float().numpy()
        error = agreement.error(y[sure], reference[sure])
        differing = float((y[sure] != reference[sure]).mean())
        good = error <= bounds[dtype]
        if experts == "grouped_mm" and dtype == torch.bfloat16:
            good &= differing <= MOST_DIFFERING
        all_good &= good
        print(f"{'agrees' if good else 'DIFFERS'}: {folder.name} {experts}: error {error:.2e} on "
              f"{sure.sum()} of {TOKENS} tokens (the others have ties), {differing:.2%} of the "
              "elements differ")
    return bool(all_good)


def main() -> int:
    """Compare all families in both types."""
    agree = []
    for number, family in enumerate(MODELS):
        for dtype in (torch.bfloat16, torch.float32):
            folder = Path(sys.argv[3]) / f"{family}-{str(dtype).removeprefix('torch.')}"
            agree.append(compare(family, dtype, np.random.default_rng(number), folder))
    return not all(agree)


if __name__ == "__main__":
    sys.exit(main())
