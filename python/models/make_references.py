"""Dump what the MoE layers of the two small models see and give on held-out data.

One `references/layer_{l}.safetensors` a layer, beside each model; `test/Models/README.md` says what
is in them. `live.py` calls `COLLECT` to compute them anew.

    python python/models/make_references.py [--out DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import OlmoeForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import train_digits  # noqa: E402
from moe import specialization, tensors  # noqa: E402
from train_bytes import CONTEXT  # noqa: E402

MODELS = Path(__file__).resolve().parents[2] / "test/Models"
BYTE_WINDOWS = (0, 7, 40, 80)  # windows of CONTEXT bytes of heldout.txt: two of ours, two of prose
DIGITS = 256  # the first so many held-out digits
Layer = dict[str, np.ndarray]


def byte_tokens() -> torch.Tensor:
    """`windows×CONTEXT` ids of the held-out text."""
    text = (MODELS / "bytes/heldout.txt").read_bytes()
    picked = [text[w * CONTEXT:(w + 1) * CONTEXT] for w in BYTE_WINDOWS]
    return torch.tensor([list(window) for window in picked])


def load_bytes_model(experts: str = "eager") -> OlmoeForCausalLM:
    """The byte model in bfloat16, as transformers runs it, with the named experts."""
    return OlmoeForCausalLM.from_pretrained(
        MODELS / "bytes", dtype=torch.bfloat16, attn_implementation="eager",
        experts_implementation=experts).eval()


def load_digits_model() -> train_digits.MoeDigits:
    """The digit model."""
    folder = MODELS / "digits"
    model = train_digits.MoeDigits(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


@torch.no_grad()
def byte_layer(block: torch.nn.Module, hidden: torch.Tensor) -> Layer:
    """What a MoE block of the byte model gives for hidden states `…×H`, with both experts."""
    logits, weights, ids = block.gate(hidden)
    layer = {"hidden": _rows(hidden), "router_logits": _rows(logits), "weights": _rows(weights),
             "ids": ids.numpy().astype(np.int32)}
    for name, experts in (("y", "eager"), ("y_grouped_mm", "grouped_mm")):
        block.experts.config._experts_implementation = experts
        layer[name] = _rows(block(hidden))
    return layer


@torch.no_grad()
def digits_layer(moe: train_digits.MoE, hidden: torch.Tensor) -> Layer:
    """What a MoE layer of the digit model gives for hidden states `T×H`."""
    logits, weights, ids = moe.route(hidden)
    return {"hidden": _rows(hidden), "router_logits": _rows(logits), "weights": _rows(weights),
            "ids": ids.numpy().astype(np.int32), "y": _rows(moe(hidden))}


def _inputs(model: torch.nn.Module, blocks: list[torch.nn.Module],
            batch: torch.Tensor) -> list[torch.Tensor]:
    """What enters each block when the model runs on a batch."""
    seen: list[torch.Tensor] = []
    handles = [block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
               for block in blocks]
    with torch.no_grad():
        model(batch)
    for handle in handles:
        handle.remove()
    return seen


def collect_bytes(hidden: list[np.ndarray] | None = None) -> list[Layer]:
    """Each layer's reference, from the model's own hidden states or from those given."""
    tokens, model = byte_tokens(), load_bytes_model()
    blocks = [layer.mlp for layer in model.model.layers]
    inputs = ([torch.tensor(h)[None].bfloat16() for h in hidden] if hidden
              else _inputs(model, blocks, tokens))
    flat = tokens.flatten().numpy()
    return [{**byte_layer(block, h), "labels": specialization.byte_class(flat),
             "tokens": flat.astype(np.uint8)} for block, h in zip(blocks, inputs, strict=True)]


def collect_digits(hidden: list[np.ndarray] | None = None) -> list[Layer]:
    """Each layer's reference, from the model's own hidden states or from those given."""
    model = load_digits_model()
    _, _, images, labels = train_digits.data()
    blocks = [layer.moe for layer in model.layers]
    inputs = ([torch.tensor(h) for h in hidden] if hidden
              else _inputs(model, blocks, images[:DIGITS]))
    labels = labels[:DIGITS].numpy().astype(np.int32)
    return [{**digits_layer(block, h), "labels": labels}
            for block, h in zip(blocks, inputs, strict=True)]


COLLECT = {"bytes": collect_bytes, "digits": collect_digits}


def load(model: str) -> list[Layer]:
    """The committed references of a model, layer by layer."""
    return [tensors.load(path)[0]
            for path in sorted((MODELS / model / "references").glob("layer_*.safetensors"))]


def _rows(value: torch.Tensor) -> np.ndarray:
    return value.detach().float().flatten(0, -2).numpy()


def write(folder: Path, layers: list[Layer], bf16: bool, classes: tuple[str, ...]) -> None:
    """Write the references of one model."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
                "classes": ",".join(classes)}
    for index, layer in enumerate(layers):
        stored = [n for n, v in layer.items() if bf16 and v.dtype == np.float32]
        path = folder / f"layer_{index}.safetensors"
        tensors.save(path, layer, bf16=stored, metadata=metadata)
        info = specialization.information(layer["labels"], layer["ids"], len(classes),
                                          layer["router_logits"].shape[-1])
        print(f"{folder.parent.name}/{path.name}: {path.stat().st_size} bytes, "
              f"{len(layer['ids'])} tokens, I(expert; class) = {info.bits:.3f} bits "
              f"({info.share:.0%}; {info.chance:.3f} by chance)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=MODELS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    write(args.out / "bytes/references", collect_bytes(), True, specialization.BYTE_CLASSES)
    write(args.out / "digits/references", collect_digits(), False, specialization.DIGIT_CLASSES)


if __name__ == "__main__":
    main()
