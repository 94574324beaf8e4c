"""Recompute the committed references, and run the byte model with our experts in it.

Prints, for each layer, how far what torch and transformers compute today is from what is
committed; then the loss of the whole byte model on its held-out text with the experts of
transformers and with those that moe-compile made (`moe.hf`). Fails when they disagree.

    python python/models/live.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_references  # noqa: E402
import moe.hf  # noqa: E402
import train_bytes  # noqa: E402
from moe import agreement  # noqa: E402

# Of agreement.error, for another CPU's order of sums: a bf16 output is a sum of two rows, each
# rounded six times on its way.
BOUNDS = {"bytes": 2.0 ** -6, "digits": 1e-5}
MISROUTED = 0.01  # share of tokens whose logits lie closer than that order moves them
LOSS_BOUND = 0.01  # bits per byte


def compare(stored: make_references.Layer, now: make_references.Layer) -> tuple[
        agreement.Routing, float]:
    """Routing of a layer, and the error of `y` over the tokens with equal ids."""
    routing = agreement.routing(stored["ids"], now["ids"], now["router_logits"])
    same = (np.sort(stored["ids"]) == np.sort(now["ids"])).all(-1)
    return routing, agreement.error(stored["y"][same], now["y"][same])


def compare_references() -> bool:
    """Print a line a layer; False when a layer is beyond its bound.

    Each layer gets the committed hidden states: those of a whole run differ on another CPU from
    the first layer on, which says nothing about a layer.
    """
    good = True
    for model, collect in make_references.COLLECT.items():
        layers = make_references.load(model)
        for index, (stored, now) in enumerate(
                zip(layers, collect([layer["hidden"] for layer in layers]), strict=True)):
            routing, error = compare(stored, now)
            good &= error <= BOUNDS[model] and routing.wrong <= MISROUTED * routing.tokens
            print(f"{model} layer {index}: ids equal for {routing.equal} of {routing.tokens} "
                  f"tokens ({routing.tied} tied), error {error:.1e}")
    return good


def compare_losses() -> bool:
    """Print the byte model's loss with each implementation; False when ours is off."""
    text = train_bytes.windows(train_bytes.corpus.HELDOUT.read_bytes())
    moe.hf.register()
    model, bits = make_references.load_bytes_model(), {}
    for experts in ("eager", "grouped_mm", "moe"):
        model.set_experts_implementation(experts)
        train_bytes.evaluate(model, text[:1])  # compiles, where there is something to compile
        start = time.perf_counter()
        bits[experts], _ = train_bytes.evaluate(model, text)
        print(f"byte model with {experts} experts: {bits[experts]:.4f} bits per byte on "
              f"{text.numel()} bytes, {time.perf_counter() - start:.2f} s")
    return abs(bits["moe"] - bits["grouped_mm"]) <= LOSS_BOUND


def main() -> int:
    torch.set_num_threads(1)
    good = [compare_references(), compare_losses()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
