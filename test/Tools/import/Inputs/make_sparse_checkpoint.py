"""Write a checkpoint of published size that takes no space on disk.

The folder gets a config.json with the published values, an index and shards of safetensors: their
headers are real, their data is a hole. Only the MoE blocks of the chosen layers are in it.

    python make_sparse_checkpoint.py mixtral OUT --layers 0,31
    python make_sparse_checkpoint.py deepseek_v3 OUT --layers 3 --retype experts=F8_E4M3

Changes, for tests of what is refused:
    --set FIELD=JSON      a field of config.json;  --unset FIELD  removes it
    --rename OLD=NEW      a tensor, before the next ones
    --retype PART=DTYPE   all tensors whose name contains PART get this dtype
    --fp8 PART            the same for F8_E4M3, and a scale for each block of 128x128 beside it
    --reshape NAME=AxB    this tensor gets this shape
    --drop NAME           this tensor isn't there
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from pathlib import Path

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1, "I32": 4, "I8": 1}

CONFIGS = {
    "mixtral": {  # Mixtral-8x7B-v0.1
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_local_experts": 8, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.02,
        "sliding_window": None, "torch_dtype": "bfloat16", "vocab_size": 32000},
    "olmoe": {  # OLMoE-1B-7B-0924
        "architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16,
        "num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False,
        "clip_qkv": None, "torch_dtype": "bfloat16", "vocab_size": 50304},
    "qwen3_moe": {  # Qwen3-30B-A3B
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_hidden_layers": 48, "num_experts": 128, "num_experts_per_tok": 8,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "rope_scaling": None, "torch_dtype": "bfloat16", "vocab_size": 151936},
    "deepseek_v3": {  # DeepSeek-V3 in bfloat16; with --fp8 _proj as it is released
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "hidden_act": "silu", "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "first_k_dense_replace": 3,
        "moe_layer_freq": 1, "n_routed_experts": 256, "n_shared_experts": 1,
        "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "norm_topk_prob": True,
        "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32}, "ep_size": 1,
        "torch_dtype": "bfloat16", "vocab_size": 129280},
    "gpt_oss": {  # gpt-oss-120b, as it is released
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_act": "silu",
        "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 36,
        "num_local_experts": 128, "num_experts_per_tok": 4, "experts_per_token": 4,
        "swiglu_limit": 7.0, "torch_dtype": "bfloat16", "vocab_size": 201088,
        "quantization_config": {"quant_method": "mxfp4"}},
}


def mixtral_block(c: dict, layer: int) -> dict[str, tuple[str, list[int]]]:
    """Name → (dtype, shape) of the tensors of one Mixtral block."""
    h, i, block = c["hidden_size"], c["intermediate_size"], f"model.layers.{layer}.block_sparse_moe"
    tensors = {f"{block}.gate.weight": ("BF16", [c["num_local_experts"], h])}
    for e in range(c["num_local_experts"]):
        tensors[f"{block}.experts.{e}.w1.weight"] = ("BF16", [i, h])
        tensors[f"{block}.experts.{e}.w2.weight"] = ("BF16", [h, i])
        tensors[f"{block}.experts.{e}.w3.weight"] = ("BF16", [i, h])
    return tensors


def mlp_block(c: dict, layer: int) -> dict[str, tuple[str, list[int]]]:
    """The same for the families that call the block `mlp` and its experts' parts `*_proj`."""
    h, i = c["hidden_size"], c.get("moe_intermediate_size", c["intermediate_size"])
    experts = c.get("n_routed_experts") or c["num_experts"]
    block = f"model.layers.{layer}.mlp"
    tensors = {f"{block}.gate.weight": ("BF16", [experts, h])}
    parts = {f"experts.{e}": i for e in range(experts)}
    if "n_shared_experts" in c:
        parts["shared_experts"] = i * c["n_shared_experts"]
        tensors[f"{block}.gate.e_score_correction_bias"] = ("F32", [experts])
    for part, width in parts.items():
        tensors[f"{block}.{part}.gate_proj.weight"] = ("BF16", [width, h])
        tensors[f"{block}.{part}.up_proj.weight"] = ("BF16", [width, h])
        tensors[f"{block}.{part}.down_proj.weight"] = ("BF16", [h, width])
    return tensors


def mxfp4_block(c: dict, layer: int) -> dict[str, tuple[str, list[int]]]:
    """The same for gpt-oss: all experts in one tensor, 16 bytes for 32 inputs."""
    h, i, experts = c["hidden_size"], c["intermediate_size"], c["num_local_experts"]
    block = f"model.layers.{layer}.mlp"
    tensors = {f"{block}.router.weight": ("BF16", [experts, h]),
               f"{block}.router.bias": ("BF16", [experts])}
    for name, outputs, inputs in (("gate_up_proj", 2 * i, h), ("down_proj", h, i)):
        part = f"{block}.experts.{name}"
        tensors[f"{part}_blocks"] = ("U8", [experts, outputs, inputs // 32, 16])
        tensors[f"{part}_scales"] = ("U8", [experts, outputs, inputs // 32])
        tensors[f"{part}_bias"] = ("BF16", [experts, outputs])
    return tensors


def change(tensors: dict[str, tuple[str, list[int]]], args: argparse.Namespace) -> dict:
    """`tensors` as the flags have them."""
    for old, new in args.rename:
        tensors[new] = tensors.pop(old)
    for part, dtype in args.retype:
        tensors = {name: (dtype if part in name else old, shape)
                   for name, (old, shape) in tensors.items()}
    for part in args.fp8:
        for name, (_, shape) in list(tensors.items()):
            if part in name:
                grid = [-(-size // 128) for size in shape]
                tensors |= {name: ("F8_E4M3", shape), f"{name}_scale_inv": ("F32", grid)}
    for name, shape in args.reshape:
        tensors[name] = (tensors[name][0], [int(size) for size in shape.split("x")])
    for name in args.drop:
        del tensors[name]
    return tensors


def write_shard(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> int:
    """A safetensors file whose data is a hole; returns the size of the data."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end


def pair(text: str) -> tuple[str, str]:
    """`A=B` as (A, B)."""
    name, _, value = text.partition("=")
    return name, value


def main() -> None:
    """Write the checkpoint that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=CONFIGS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", default="0", help="comma separated")
    parser.add_argument("--shards", type=int, default=3)
    for flag in ("--set", "--retype", "--reshape", "--rename"):
        parser.add_argument(flag, action="append", default=[], type=pair)
    for flag in ("--unset", "--drop", "--fp8"):
        parser.add_argument(flag, action="append", default=[])
    args = parser.parse_args()

    config = dict(CONFIGS[args.family])
    blocks = {"mixtral": mixtral_block, "gpt_oss": mxfp4_block}
    block = blocks.get(args.family, mlp_block)
    tensors = {"model.norm.weight": ("BF16", [config["hidden_size"]])}
    for layer in map(int, args.layers.split(",")):
        tensors |= block(config, layer)
    tensors = change(tensors, args)

    args.out.mkdir(parents=True, exist_ok=True)
    config |= {name: json.loads(value) for name, value in args.set}
    for name in args.unset:
        del config[name]
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    names = list(tensors)
    index: dict = {"metadata": {"total_size": 0}, "weight_map": {}}
    for number in range(args.shards):
        shard = f"model-{number + 1:05}-of-{args.shards:05}.safetensors"
        mine = names[number::args.shards]
        index["metadata"]["total_size"] += write_shard(
            args.out / shard, {name: tensors[name] for name in mine})
        index["weight_map"] |= dict.fromkeys(mine, shard)
    (args.out / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
