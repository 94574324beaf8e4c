"""Train the byte-level language model of `test/Models/bytes` and save it as a checkpoint.

An `OlmoeForCausalLM` of transformers over the 256 bytes, trained in float32 on what `corpus.py`
finds, saved in bfloat16. Prints its bits per byte on two held-out texts beside those of a bigram
model, and the mutual information between expert and class of byte.

    python python/models/train_bytes.py [--steps N] [--out DIR]
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM
from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import corpus  # noqa: E402
import training  # noqa: E402
from moe import specialization  # noqa: E402

CONTEXT = 128
BATCH = 32
OUT = Path(__file__).resolve().parents[2] / "test/Models/bytes"


def config() -> OlmoeConfig:
    """Two layers of eight experts; the rest as the published OLMoE has it."""
    return OlmoeConfig(
        vocab_size=256, hidden_size=128, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=CONTEXT,
        num_experts=8, num_experts_per_tok=2, norm_topk_prob=False, router_aux_loss_coef=0.002,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager", experts_implementation="eager")


def windows(text: bytes) -> torch.Tensor:
    """`N×CONTEXT` ids: the text cut into windows, the last part of it dropped."""
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    return ids[:len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)


def bigram_bits(train: bytes, text: torch.Tensor) -> float:
    """Bits per byte of the bigram model with Dirichlet smoothing towards the unigrams.

    Scored on the same bytes as the network: all but the first of each window. The strength of the
    smoothing is the best of seven on the text itself, which favours the bigram model.
    """
    data = np.frombuffer(train, np.uint8)
    counts = np.zeros((256, 256))
    np.add.at(counts, (data[:-1], data[1:]), 1)
    unigram = (counts.sum(0) + 1) / (counts.sum() + 256)
    before, after = text[:, :-1].numpy().ravel(), text[:, 1:].numpy().ravel()
    bits = []
    for strength in (1, 3, 10, 30, 100, 300, 1000):
        p = (counts + strength * unigram) / (counts.sum(1, keepdims=True) + strength)
        bits.append(float(-np.log2(p[before, after]).mean()))
    return min(bits)


@torch.no_grad()
def evaluate(model: OlmoeForCausalLM, text: torch.Tensor) -> tuple[float, list[np.ndarray]]:
    """(bits per byte, ids `tokens×k` of each layer)."""
    model.eval()
    loss, ids = 0.0, [[] for _ in range(model.config.num_hidden_layers)]
    for batch in text.split(64):
        out = model(batch, output_router_logits=True)
        logits = out.logits[:, :-1].float().flatten(0, 1)
        loss += torch.nn.functional.cross_entropy(
            logits, batch[:, 1:].flatten(), reduction="sum").item()
        for layer, router in zip(ids, out.router_logits):
            layer.append(router.float().topk(model.config.num_experts_per_tok)[1].numpy())
    model.train()
    return loss / math.log(2) / (text.numel() - len(text)), [np.concatenate(i) for i in ids]


def train(model: OlmoeForCausalLM, text: bytes, steps: int) -> None:
    """AdamW, a short warm-up, cosine decay.

    The load-balance loss is that of transformers, but taken of each layer: over all layers
    together it lets an expert starve in one layer as long as it is busy in another.
    """
    config = model.config
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(
        (s + 1) / 50, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * s / steps))))
    start = time.time()
    for step in range(steps):
        at = torch.randint(len(data) - CONTEXT, (BATCH,))
        batch = torch.stack([data[i:i + CONTEXT] for i in at]).long()
        out = model(batch, output_router_logits=True)
        logits = out.logits[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten())
        balance = sum(load_balancing_loss_func((r,), config.num_experts, config.num_experts_per_tok)
                      for r in out.router_logits) / len(out.router_logits)
        (loss + config.router_aux_loss_coef * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5}  {loss.item() / math.log(2):.3f} bits/byte  "
                  f"balance {balance.item():.3f}  {time.time() - start:.0f} s", flush=True)


def report(model: OlmoeForCausalLM, train_text: bytes, texts: dict[str, bytes]) -> None:
    """Print the figures of the saved (bfloat16) model on the held-out texts."""
    for name, text in texts.items():
        ids = windows(text)
        bits, experts = evaluate(model, ids)
        print(f"{name}: {ids.numel()} bytes, model {bits:.3f} bits/byte, "
              f"bigram {bigram_bits(train_text, ids):.3f} bits/byte")
        labels = specialization.byte_class(ids.flatten().numpy())
        for layer, chosen in enumerate(experts):
            info = specialization.information(
                labels, chosen, len(specialization.BYTE_CLASSES), model.config.num_experts)
            load = np.bincount(chosen.ravel(), minlength=model.config.num_experts) / chosen.size
            print(f"  layer {layer}: I(expert; class) = {info.bits:.3f} bits "
                  f"({info.share:.0%} of the possible; {info.chance:.3f} by chance), "
                  f"load {load.min():.3f} to {load.max():.3f}")


def main() -> None:
    args = training.begin(__doc__.splitlines()[0], OUT)
    train_text, held, committed = corpus.load()
    print(f"training text: {len(train_text)} bytes, {corpus.digest(train_text)}")
    model = OlmoeForCausalLM(config())
    print(f"parameters: {sum(p.numel() for p in model.parameters())}")
    train(model, train_text, args.steps)
    model = model.to(torch.bfloat16)
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    (args.out / "generation_config.json").unlink(missing_ok=True)
    report(model, train_text, {"this machine's": held, "committed": committed})


if __name__ == "__main__":
    main()
