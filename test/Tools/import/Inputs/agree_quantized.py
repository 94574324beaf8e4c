"""Import models in the layouts that they are published in, and compare with transformers.

    python agree_quantized.py MOE_IMPORT MOE_RUN FOLDER

One small random model a layout, twice: as published, and in bfloat16 with what transformers
dequantizes that to. Both must give one text and, bit by bit, one result, and that result must agree
with the MoE block of transformers on the dequantized weights.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "python"))
from moe import agreement  # noqa: E402

TOKENS = 64
SIZES = {"num_hidden_layers": 2, "vocab_size": 32, "num_attention_heads": 2,
         "num_key_value_heads": 2, "num_experts_per_tok": 3, "max_position_embeddings": 16,
         "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
# As in agree_with_transformers.py, under "grouped_mm": the order of a token's experts, and an
# exponential that crosses a rounding boundary.
BOUND = 2.0**-7
Tensors = dict[str, torch.Tensor]


def quantize_fp8(name: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """`weight` as codes and scales, and as transformers reads these."""
    rows, columns = (size // 128 for size in weight.shape)
    blocks = weight.float().reshape(rows, 128, columns, 128)
    scales = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn).reshape(weight.shape)
    return ({name: codes, f"{name}_scale_inv": scales},
            Fp8Dequantize(None)._dequantize_one(codes, scales, torch.bfloat16))


def random_mxfp4(name: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """Random codes in the shape of `weight` (experts × inputs × outputs), and the same."""
    experts, inputs, outputs = weight.shape
    blocks = torch.randint(256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
    scales = torch.randint(118, 123, (experts, outputs, inputs // 32), dtype=torch.uint8)
    return ({f"{name}_blocks": blocks, f"{name}_scales": scales},
            convert_moe_packed_tensors(blocks, scales))


class Layout(NamedTuple):
    """A model and how its weights are published."""

    model: str
    sizes: dict
    router: str  # in the block
    quantized: str  # what the names of the quantized tensors of the block end in
    quantize: Callable[[str, torch.Tensor], tuple[Tensors, torch.Tensor]]
    config: dict


LAYOUTS = {
    "deepseek_v3": Layout("DeepseekV3", {
        "hidden_size": 256, "intermediate_size": 128, "moe_intermediate_size": 384,
        "n_routed_experts": 8, "n_group": 4, "topk_group": 2, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 16},
        "gate", "_proj.weight", quantize_fp8,
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
         "activation_scheme": "dynamic"}),
    "gpt_oss": Layout("GptOss", {
        "hidden_size": 64, "intermediate_size": 96, "num_local_experts": 8, "head_dim": 32},
        "router", "_proj", random_mxfp4,
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.mlp.router"]}),
}


def exact(shape: torch.Size, step: float) -> torch.Tensor:
    """Small random integers times `step`: their sums of products are exact in any order."""
    return torch.randint(-16, 17, shape).float() * step


def save(folder: Path, tensors: Tensors, config: dict) -> None:
    """A checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def make_checkpoints(layout: Layout, folder: Path) -> None:
    """The folders `published` and `dequantized`."""
    config = getattr(transformers, f"{layout.model}Config")(**(SIZES | layout.sizes))
    model = getattr(transformers, f"{layout.model}ForCausalLM")(config).bfloat16()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(exact(parameter.shape, 2.0**-6 if "mlp.gate." in name else 2.0**-5))
    model.save_pretrained(folder / "plain")
    plain = load_file(folder / "plain/model.safetensors")
    published, dequantized = dict(plain), dict(plain)
    for name, tensor in plain.items():
        if "layers.1.mlp." in name and name.endswith(layout.quantized):
            codes, dequantized[name] = layout.quantize(name, tensor)
            del published[name]
            published |= codes
    config = json.loads((folder / "plain/config.json").read_text())
    save(folder / "dequantized", dequantized, config)
    save(folder / "published", published, config | {"quantization_config": layout.config})
    print(f"{folder.name}: {len(published) - len(plain)} tensors more than in bfloat16")


def reference(layout: Layout, folder: Path, hidden: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """y of transformers' block, T×H, and which tokens have no tie that chooses their experts."""
    model = getattr(transformers, f"{layout.model}ForCausalLM").from_pretrained(
        folder / "dequantized", dtype=torch.bfloat16).eval()
    model.set_experts_implementation("grouped_mm")
    block, logits = model.model.layers[1].mlp, []
    block.get_submodule(layout.router).register_forward_hook(
        lambda _module, _inputs, outputs: logits.append(
            outputs[0] if isinstance(outputs, tuple) else outputs))
    with torch.no_grad():
        y = block(hidden[None])
    y = y[0] if isinstance(y, tuple) else y
    keys = torch.sort(logits[0].reshape(TOKENS, -1).float(), descending=True).values
    return y.reshape(hidden.shape).float().numpy(), (keys[:, 2] != keys[:, 3]).numpy()


def run(folder: Path, kind: str) -> tuple[str, torch.Tensor]:
    """The text of layer 1, and what it makes of the hidden states."""
    moe_import, moe_run = sys.argv[1:3]
    subprocess.run([moe_import, folder / kind, "--layer", "1", "-o", folder / f"{kind}-out"],
                   check=True, stdout=subprocess.DEVNULL)
    text = folder / f"{kind}-out/layer_1.mlir"
    subprocess.run([moe_run, text, "--weights", folder / kind, "--input",
                    folder / "x.safetensors", "--output", folder / f"{kind}-y.safetensors"],
                   check=True, stdout=subprocess.DEVNULL)
    return text.read_text(), load_file(folder / f"{kind}-y.safetensors")["y"]


def compare(name: str, folder: Path) -> bool:
    """Whether a model's layer agrees; prints two lines."""
    torch.manual_seed(5)
    layout = LAYOUTS[name]
    make_checkpoints(layout, folder)
    hidden = exact(torch.Size([TOKENS, layout.sizes["hidden_size"]]), 2.0**-4).bfloat16()
    save_file({"x": hidden}, folder / "x.safetensors")
    text, y = run(folder, "published")
    other_text, other_y = run(folder, "dequantized")
    same = text == other_text and torch.equal(y.view(torch.int16), other_y.view(torch.int16))
    print(f"{'same' if same else 'DIFFERS'}: {name} as published and dequantized")
    want, sure = reference(layout, folder, hidden)
    error = agreement.error(y.float().numpy()[sure], want[sure])
    good = error <= BOUND and sure.sum() > TOKENS // 2 and np.abs(want).max() > 0
    print(f"{'agrees' if good else 'DIFFERS'}: {name}: error {error:.2e} on {sure.sum()} of "
          f"{TOKENS} tokens (the others have ties)")
    return bool(same and good)


def main() -> int:
    """Compare all layouts."""
    transformers.utils.logging.disable_progress_bar()
    return not all([compare(name, Path(sys.argv[3]) / name) for name in LAYOUTS])


if __name__ == "__main__":
    sys.exit(main())
