"""The committed models and references: size, what they can do, and that they are what they say."""

from __future__ import annotations

from pathlib import Path

import live
import make_references
import numpy as np
import pytest
import torch
import train_bytes
import train_digits

from moe import agreement, reference, specialization, tensors
from moe.tensors import round_bf16

MODELS = Path(__file__).resolve().parents[2] / "test/Models"
FOLDERS = ("bytes", "digits")


def test_sizes():
    weights = sum((MODELS / m / "model.safetensors").stat().st_size for m in FOLDERS)
    stored = sum(p.stat().st_size for m in FOLDERS for p in (MODELS / m / "references").iterdir())
    assert weights <= 4_000_000 and stored <= 2_000_000


def test_digits_are_recognised():
    model = make_references.load_digits_model()
    _, _, images, labels = train_digits.data()
    with torch.no_grad():
        assert (model(images).argmax(-1) == labels).float().mean() > 0.95


def test_bytes_are_predicted():
    """A bigram model trained on the same text has 3.7 bits a byte here (see train_bytes.py)."""
    text = train_bytes.windows((MODELS / "bytes/heldout.txt").read_bytes())
    bits, _ = train_bytes.evaluate(make_references.load_bytes_model(), text)
    assert bits < 2.5


@pytest.mark.parametrize("model", FOLDERS)
def test_experts_specialise(model):
    names = specialization.BYTE_CLASSES if model == "bytes" else specialization.DIGIT_CLASSES
    for layer in make_references.load(model):
        info = specialization.information(layer["labels"], layer["ids"][:, :1], len(names), 8)
        assert info.share > 0.25 and info.bits > 5 * info.chance


def test_references_are_what_the_models_compute_today(capsys):
    assert live.compare_references(), capsys.readouterr().out


@pytest.mark.parametrize("model", FOLDERS)
def test_references_are_of_the_committed_models(model):
    """The hidden states, too: what enters the first layer hangs on no layer of experts."""
    stored, now = make_references.load(model)[0], make_references.COLLECT[model]()[0]
    assert stored.keys() == now.keys()
    assert np.array_equal(stored["labels"], now["labels"])
    assert agreement.error(stored["hidden"], now["hidden"]) < 2.0 ** -5


def olmoe_layer(weights: dict, layer: int, ref: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keys, ids, y) of a layer of the byte model in float64 with the roundings of ROUNDING.md."""
    prefix = f"model.layers.{layer}.mlp."
    x = ref["hidden"]
    logits = round_bf16(x @ weights[prefix + "gate.weight"].T)
    w, ids = reference.gate(logits, 2)
    offsets, slots, (rows, row_weights) = reference.dispatch(ids, 8, [x], [round_bf16(w)])
    params = [np.stack([weights[f"{prefix}experts.{e}.{n}_proj.weight"] for e in range(8)])
              for n in ("gate", "up", "down")]

    def body(_, h, w, gate, up, down):
        g, u = round_bf16(h @ gate.T), round_bf16(h @ up.T)
        a = round_bf16(g / (1 + np.exp(-np.float64(g))))
        return [round_bf16(round_bf16(round_bf16(a * u) @ down.T) * w[:, None])]

    (rows,) = reference.expert(offsets, [rows, row_weights], params, [rows], body)
    return logits, ids, round_bf16(reference.combine(rows, slots, np.ones(slots.shape)))


def digits_layer(weights: dict, layer: int, ref: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keys, ids, y) of a layer of the digit model in float64, as its README has it."""
    prefix = f"layers.{layer}.moe."
    x = np.float64(ref["hidden"])
    logits = (x @ weights[prefix + "router.weight"].T + weights[prefix + "router.bias"]) / 0.5
    w, ids = reference.gate(logits, 2, scope="selected")
    offsets, slots, (rows,) = reference.dispatch(ids, 8, [x])
    params = [np.stack([weights[f"{prefix}experts.{e}.{n}"] for e in range(8)])
              for n in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]

    def body(_, h, w1, b1, w2, b2):
        v = torch.tensor(h @ w1.T + b1)
        return [torch.nn.functional.gelu(v).numpy() @ w2.T + b2]

    (rows,) = reference.expert(offsets, [rows], params, [rows], body)
    return logits, ids, reference.combine(rows, slots, w)


@pytest.mark.parametrize("model", FOLDERS)
def test_references_agree_with_the_float64_reference(model):
    """From the tensors on disk, with numpy alone: what an imported layer has to reach."""
    weights, _ = tensors.load(MODELS / model / "model.safetensors")
    layer_of = olmoe_layer if model == "bytes" else digits_layer
    for index, ref in enumerate(make_references.load(model)):
        keys, ids, y = layer_of(weights, index, ref)
        got = agreement.routing(ids, ref["ids"], ref["router_logits"])
        same = (np.sort(ids) == np.sort(ref["ids"])).all(-1)
        print(f"{model} layer {index}: {got}, error {agreement.error(y[same], ref['y'][same]):.2e}")
        assert got.wrong == 0
        if model == "bytes":
            assert agreement.error(y[same], ref["y_grouped_mm"][same]) < 2.0 ** -7
            assert agreement.error(y[same], ref["y"][same]) < 2.0 ** -6
        else:
            assert agreement.error(y[same], ref["y"][same]) < 1e-5
