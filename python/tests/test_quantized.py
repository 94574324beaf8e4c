"""`moe.quantized` against transformers, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from moe import quantized, tensors

EXTREMES = [0.0, 2.0**-149, 2.0**-126, 1e-30, 0.1, 1.0, -7.0, 2.0**100, 2.0**127, np.inf, np.nan]


def load(tmp_path, stored: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    save_file(stored, tmp_path / "x.safetensors")
    return quantized.dequantize(tensors.load(tmp_path / "x.safetensors")[0])


def assert_same(got: np.ndarray, want: torch.Tensor) -> None:
    """Equal bit by bit, or both a NaN."""
    want = want.numpy()
    assert got.dtype == np.float32 and got.shape == want.shape
    number = ~(np.isnan(got) & np.isnan(want))
    assert np.array_equal(got[number].view(np.uint32), want[number].view(np.uint32))


def draw(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def uniform(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_all_fp8_codes_under_extreme_scales(tmp_path, kind):
    scales = torch.tensor(EXTREMES)[:, None, None].repeat(1, 1, 2)
    codes = torch.arange(256, dtype=torch.uint8).repeat(len(EXTREMES), 128, 1).view(kind)
    read = load(tmp_path, {"w": codes, "w_scale_inv": scales, "b": torch.ones(2)})
    assert read.keys() == {"w", "b"}
    assert_same(read["w"], Fp8Dequantize(None)._dequantize_one(codes, scales, torch.float32))


@pytest.mark.parametrize("scales", [uniform(2, 3).bfloat16(), draw(2, 3), uniform(256, 12)])
def test_scales_of_other_types_and_grids(tmp_path, scales):
    codes = draw(256, 384).view(torch.float8_e4m3fn)
    read = load(tmp_path, {"w": codes, "w_scale_inv": scales})
    assert_same(read["w"], Fp8Dequantize(None)._dequantize_one(codes, scales, torch.float32))


def test_blocks_at_the_edge_are_smaller(tmp_path):
    codes, scales = draw(300, 192).view(torch.float8_e4m3fn), uniform(3, 2)
    every = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)[:300, :192]
    assert_same(load(tmp_path, {"w": codes, "w_scale_inv": scales})["w"], codes.float() * every)


def test_all_mxfp4_codes_under_all_scales(tmp_path):
    blocks = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 256, 1, 1)
    scales = torch.arange(256, dtype=torch.uint8)[None, :, None].repeat(1, 1, 16)
    read = load(tmp_path, {"w_blocks": blocks, "w_scales": scales})
    assert read.keys() == {"w"}
    assert_same(read["w"], convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
    want = convert_moe_packed_tensors(blocks, scales)
    assert np.array_equal(tensors.bf16_bits(read["w"]), want.view(torch.int16).numpy().view("u2"))


@pytest.mark.parametrize("stored,message", [
    ({"w_blocks": draw(1, 2, 3, 16)}, "'w_blocks': there is no w_scales"),
    ({"w_blocks": draw(1, 2, 3, 16), "w_scales": draw(1, 2, 4)}, r"'w_blocks': .*\(1, 2, 4\)"),
    ({"w": draw(256, 200).float(), "w_scale_inv": torch.ones(2, 3)},
     "'w': 3 scales along a dimension of 200: one for each 128 values makes 2"),
    ({"w": draw(2, 2).float(), "w_scale_inv": torch.ones(1)}, r"'w': .*\(1,\) .*\(2, 2\)")])
def test_what_does_not_fit_is_named(tmp_path, stored, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, stored)
