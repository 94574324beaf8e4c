"""`moe.tensors`, `moe.agreement` and `moe.specialization`: the small tools of the demo."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from moe import agreement, specialization, tensors

INF, NAN = np.inf, np.nan


def test_bf16_rounds_as_torch():
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    special = np.float32([0, -0.0, INF, -INF, NAN, 3.4e38, 1 + 2**-8, 1 + 3 * 2**-8, 1e-45])
    values = np.concatenate([bits.view(np.float32), special])
    expected = torch.tensor(values).bfloat16().float().numpy()
    got = tensors.round_bf16(values)
    number = ~np.isnan(values)
    assert np.array_equal(got[number].view(np.uint32), expected[number].view(np.uint32))
    assert np.isnan(got[~number]).all()


def test_safetensors_both_ways(tmp_path):
    stored = {"a": torch.randn(3, 4).bfloat16(), "b": torch.arange(5, dtype=torch.int32),
              "empty": torch.zeros(0, 7), "scalar": torch.tensor(2.5, dtype=torch.float64),
              "flag": torch.tensor([True, False])}
    save_file(stored, tmp_path / "x.safetensors", metadata={"k": "v"})
    read, metadata = tensors.load(tmp_path / "x.safetensors")
    assert metadata == {"k": "v"} and read.keys() == stored.keys()
    for name, value in stored.items():
        assert np.array_equal(read[name], value.float() if name == "a" else value)
    tensors.save(tmp_path / "y.safetensors", read, bf16={"a"}, metadata={"k": "v"})
    again = load_file(tmp_path / "y.safetensors")
    assert all(torch.equal(again[n], v) and again[n].dtype == v.dtype for n, v in stored.items())
    data = (tmp_path / "y.safetensors").read_bytes()
    assert (8 + struct.unpack("<Q", data[:8])[0]) % 64 == 0


def entry(**change) -> dict:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}


@pytest.mark.parametrize("header,message", [
    (b"", "too short"), (struct.pack("<Q", 99), "header of 99 bytes"),
    (struct.pack("<Q", 1) + b"{", "isn't JSON"), (struct.pack("<Q", 2) + b"[]", "JSON object"),
    (entry(dtype="F8_E8M0"), "F8_E8M0"), (entry(shape=[3]), "needs 12 bytes"),
    (entry(data_offsets=[4, 12]), "needs 8 bytes"), (entry(shape=[-2]), "isn't described"),
    (entry(shape=None), "isn't described"), ("text", "isn't described"),
    (entry(shape=[2.0]), "isn't described"), (entry(data_offsets=[0.0, 8.0]), "isn't described"),
    (entry(dtype=[4]), "'w' is .4., which"),
    (struct.pack("<Q", 60_000) + b"[" * 60_000, "isn't JSON"),
    (b'{"__metadata__":5}', "metadata isn't a JSON object: 5"),
    (b'{"__metadata__":{"k":5}}', "metadata 'k' isn't text: 5")])
def test_safetensors_that_are_broken(tmp_path, header, message):
    if not isinstance(header, bytes):
        text = json.dumps({"w": header}).encode()
        header = struct.pack("<Q", len(text)) + text + bytes(8)
    elif header.startswith(b'{"'):
        header = struct.pack("<Q", len(header)) + header
    (tmp_path / "x.safetensors").write_bytes(header)
    with pytest.raises(ValueError, match=message):
        tensors.load(tmp_path / "x.safetensors")


def test_error_is_relative_to_the_token():
    reference = np.array([[1.0, 4.0], [0.0, 0.0]])
    assert agreement.error([[1.0, 5.0], [0.0, 0.0]], reference) == 0.25
    assert agreement.error([[1.0, 4.0], [0.5, 0.0]], reference) == 0.5
    assert agreement.error(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    assert agreement.error([[INF, NAN]], [[INF, NAN]]) == 0
    assert agreement.error([[NAN, 0.0]], [[1.0, 0.0]]) == INF
    with pytest.raises(ValueError, match="shapes differ"):
        agreement.error(np.zeros((1, 2)), np.zeros((2, 1)))


def test_routing_forgives_ties_alone():
    keys = np.array([[3.0, 2, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1], [2, 2, 2, 1]])
    theirs = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
    mine = np.array([[2, 0], [1, 0], [0, 2], [0, 0]])
    assert agreement.routing(mine, theirs, keys) == agreement.Routing(4, 1, 2, 2)
    assert agreement.routing(theirs[:, :1] * 0, theirs[:, :1], keys[:, :1]).wrong == 0


def test_byte_classes():
    text = np.frombuffer(b"aZ5 \t\n~!\x00\xff", np.uint8)
    assert specialization.byte_class(text).tolist() == [0, 1, 2, 3, 3, 4, 5, 5, 6, 6]


def test_information_of_known_tables():
    labels = np.repeat(np.arange(4), 50)
    sure = specialization.information(labels, labels[:, None], 4, 4)
    assert sure.bits == pytest.approx(2) and sure.share == pytest.approx(1) and sure.chance < 0.1
    none = specialization.information(labels, np.tile([[0, 1]], (200, 1)), 4, 2)
    assert none.bits == pytest.approx(0, abs=1e-12) and none.share == pytest.approx(0, abs=1e-12)
    table = specialization.joint([0, 1], [[0, -1], [1, 9]], 2, 2, [[0.5, 1], [2, 1]])
    assert table.tolist() == [[0.5, 0], [0, 2]]
