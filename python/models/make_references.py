"""Dump what the MoE layers of the two small models see and give on held-out data.

One `references/layer_{l}.safetensors` a layer, beside each model; `test/Models/README.md` says what
is in them. `collect_bytes` and `collect_digits` are what `--live` calls to compute them anew.

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


@torch.no_grad()
def collect_bytes() -> list[Layer]:
    """Of each layer: hidden, router_logits, ids, weights, y, y_grouped_mm; labels and tokens."""
    tokens = byte_tokens()
    model = load_bytes_model()
    blocks = [layer.mlp for layer in model.model.layers]
    layers: list[Layer] = [{} for _ in blocks]
    hidden: dict[int, torch.Tensor] = {}

    def watch(index: int):
        def hook(block, inputs, output):
            hidden[index] = inputs[0]
            logits, weights, ids = block.gate(inputs[0])
            layers[index].update(
                hidden=_rows(inputs[0]), router_logits=_rows(logits), weights=_rows(weights),
                ids=ids.numpy().astype(np.int32), y=_rows(output))
        return hook

    handles = [block.register_forward_hook(watch(i)) for i, block in enumerate(blocks)]
    model(tokens)
    for handle in handles:
        handle.remove()
    model.set_experts_implementation("grouped_mm")
    labels = specialization.byte_class(tokens.flatten().numpy())
    for index, block in enumerate(blocks):
        layers[index].update(y_grouped_mm=_rows(block(hidden[index])), labels=labels,
                             tokens=tokens.flatten().numpy().astype(np.uint8))
    return layers


@torch.no_grad()
def collect_digits() -> list[Layer]:
    """Of each layer: hidden, router_logits, ids, weights, y and labels."""
    folder = MODELS / "digits"
    model = train_digits.MoeDigits(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    _, _, images, labels = train_digits.data()
    x, layers = model.embed(images[:DIGITS]), []
    for layer in model.layers:
        hidden = layer.norm(x)
        logits, weights, ids = layer.moe.route(hidden)
        y = layer.moe(hidden)
        layers.append({"hidden": _rows(hidden), "router_logits": _rows(logits),
                       "weights": _rows(weights), "ids": ids.numpy().astype(np.int32),
                       "y": _rows(y), "labels": labels[:DIGITS].numpy().astype(np.int32)})
        x = x + y
    return layers


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
