"""Train the digit recogniser of `test/Models/digits` and save it as a checkpoint.

A model of our own (not of transformers): one token an image, two residual MoE layers, float32. Its
mathematics, tensor names and config fields are in `test/Models/digits/README.md`.

    python python/models/train_digits.py [--steps N] [--out DIR]
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import training  # noqa: E402
from moe import specialization  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "test/Models/digits"
CONFIG = {
    "architectures": ["MoeDigits"], "model_type": "moe_digits", "dtype": "float32",
    "input_size": 64, "hidden_size": 64, "expert_size": 48, "num_layers": 2, "num_experts": 8,
    "experts_per_token": 2, "router_temperature": 0.5, "norm_eps": 1e-5, "num_classes": 10,
}
BALANCE = 0.05  # weight of the load-balance loss
FOCUS = 0.005  # weight of the mean entropy of a token's routing: experts should be sure


class Expert(nn.Module):
    """`x ↦ W₂·gelu(W₁·x + b₁) + b₂`, the exact (erf) gelu."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config["hidden_size"], config["expert_size"])
        self.fc2 = nn.Linear(config["expert_size"], config["hidden_size"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class MoE(nn.Module):
    """Softmax over the logits of the selected experts; the router has a bias and a temperature."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.top_k = config["experts_per_token"]
        self.temperature = config["router_temperature"]
        self.router = nn.Linear(config["hidden_size"], config["num_experts"])
        self.experts = nn.ModuleList(Expert(config) for _ in range(config["num_experts"]))

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(logits `T×E`, weights `T×k`, ids `T×k`)."""
        logits = self.router(x) / self.temperature
        values, ids = logits.topk(self.top_k)
        return logits, values.softmax(-1), ids

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.logits, weights, ids = self.route(x)
        y = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            token, choice = torch.where(ids == e)
            y = y.index_add(0, token, expert(x[token]) * weights[token, choice, None])
        return y


class Layer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config["hidden_size"], eps=config["norm_eps"])
        self.moe = MoE(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.moe(self.norm(x))


class MoeDigits(nn.Module):
    """64 grey values (0…1) → 10 logits."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config["input_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_layers"]))
        self.norm = nn.LayerNorm(config["hidden_size"], eps=config["norm_eps"])
        self.head = nn.Linear(config["hidden_size"], config["num_classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(training images `N×64`, their digits, every fourth image: held out, its digits)."""
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    held = torch.arange(len(labels)) % 4 == 3
    return images[~held], labels[~held], images[held], labels[held]


def balance_and_focus(model: MoeDigits) -> tuple[torch.Tensor, torch.Tensor]:
    """(load-balance loss, mean entropy of the router in nats) of the last forward, layers' mean."""
    balance, entropy = [], []
    for layer in model.layers:
        p = layer.moe.logits.softmax(-1)
        ids = layer.moe.logits.topk(layer.moe.top_k)[1]
        load = nn.functional.one_hot(ids, p.shape[-1]).float().mean((0, 1))
        balance.append(p.shape[-1] * (load * p.mean(0)).sum())
        entropy.append(-(p * p.clamp_min(1e-9).log()).sum(-1).mean())
    return torch.stack(balance).mean(), torch.stack(entropy).mean()


def jitter(images: torch.Tensor) -> torch.Tensor:
    """Images moved by at most one pixel each way, with a little noise."""
    grid = nn.functional.pad(images.view(-1, 8, 8), (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2,)).tolist()
    moved = grid[:, dy:dy + 8, dx:dx + 8] if torch.rand(()) < 0.4 else grid[:, 1:9, 1:9]
    return moved.reshape(-1, 64) + 0.03 * torch.randn(len(images), 64)


def train(model: MoeDigits, steps: int) -> None:
    images, labels, _, _ = data()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * s / steps)))
    start = time.time()
    for step in range(steps):
        at = torch.randint(len(labels), (128,))
        loss = nn.functional.cross_entropy(model(jitter(images[at])), labels[at])
        balance, entropy = balance_and_focus(model)
        (loss + BALANCE * balance + FOCUS * entropy).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            print(f"step {step:5}  loss {loss.item():.4f}  balance {balance.item():.3f}  "
                  f"entropy {entropy.item():.3f}  {time.time() - start:.0f} s", flush=True)


@torch.no_grad()
def report(model: MoeDigits) -> None:
    """Print the accuracy on held-out digits and the mutual information of expert and digit."""
    _, _, images, labels = data()
    right = (model(images).argmax(-1) == labels).float().mean().item()
    print(f"held-out: {len(labels)} digits, {right:.2%} right")
    for i, layer in enumerate(model.layers):
        ids = layer.moe.logits.topk(layer.moe.top_k)[1].numpy()
        info = specialization.information(labels.numpy(), ids, 10, model.config["num_experts"])
        load = np.bincount(ids.ravel(), minlength=model.config["num_experts"]) / ids.size
        print(f"  layer {i}: I(expert; digit) = {info.bits:.3f} bits ({info.share:.0%} of the "
              f"possible; {info.chance:.3f} by chance), load {load.min():.3f} to {load.max():.3f}")


def main() -> None:
    args = training.begin(__doc__.splitlines()[0], OUT)
    model = MoeDigits(CONFIG)
    print(f"parameters: {sum(p.numel() for p in model.parameters())}")
    train(model, args.steps)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file(model.state_dict(), str(args.out / "model.safetensors"), metadata={"format": "pt"})
    report(model)


if __name__ == "__main__":
    main()
