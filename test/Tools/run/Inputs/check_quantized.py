"""Bind published quantized tensors with moe-run, and compare every bit with transformers.

    python check_quantized.py MOE_RUN FOLDER

The layer returns its weights, so that what is compared are the values that the loader makes: of all
codes, under scales from the smallest to the largest, in every type that a layer may have. Only a
NaN has no bits of its own: torch makes different ones of different lengths.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
BITS = {2: torch.int16, 4: torch.int32}
EXTREMES = [0.0, 2.0**-149, 2.0**-126, 1e-30, 0.1, 1.0, -7.0, 2.0**100, 2.0**127, float("inf"),
            float("nan")]
COPY = """func.func @layer(%w: tensor<TYPE> {moe.name = "in", moe.param = "w"})
    -> (tensor<TYPE> {moe.name = "w"}) {
  %empty = tensor.empty() : tensor<TYPE>
  %copy = linalg.copy ins(%w : tensor<TYPE>) outs(%empty : tensor<TYPE>) -> tensor<TYPE>
  return %copy : tensor<TYPE>
}
"""


def mxfp4(blocks: torch.Tensor, scales: torch.Tensor) -> tuple[dict, object]:
    """A checkpoint, and what transformers makes of it."""
    return {"w_blocks": blocks, "w_scales": scales}, lambda dtype: convert_moe_packed_tensors(
        blocks, scales, dtype=dtype)


def fp8(codes: torch.Tensor, scales: torch.Tensor) -> tuple[dict, object]:
    """The same for fp8."""
    return {"w": codes, "w_scale_inv": scales}, lambda dtype: Fp8Dequantize(None)._dequantize_one(
        codes, scales, output_dtype=dtype)


def edge(codes: torch.Tensor, scales: torch.Tensor) -> tuple[dict, object]:
    """The same where the last blocks of 128x128 are smaller. Transformers has no such tensors: it
    refuses most, and makes blocks of one size of those that their number of scales divides."""
    all_scales = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    product = codes.float() * all_scales[:codes.shape[0], :codes.shape[1]]
    return {"w": codes, "w_scale_inv": scales}, product.to


def all_bytes(*shape: int) -> torch.Tensor:
    """All 256 of them, over and over."""
    return torch.arange(torch.tensor(shape).prod().item()).remainder(256).to(torch.uint8).reshape(
        shape)


def make_cases() -> dict[str, tuple[dict, object]]:
    """Checkpoints of one tensor `w`."""
    random = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(256, shape, generator=random, dtype=torch.uint8)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=random)

    extremes = torch.tensor(EXTREMES)
    e4m3, e5m2 = torch.float8_e4m3fn, torch.float8_e5m2
    rows = all_bytes(len(EXTREMES), 128, 256)  # a block an extreme
    return {
        # A byte is two codes: 16 blocks of 16 bytes have all pairs, under all scales.
        "mxfp4-all": mxfp4(all_bytes(2, 256, 16, 16), all_bytes(2, 16, 256).mT.contiguous()),
        "mxfp4-odd": mxfp4(draw(3, 77, 5, 16), draw(3, 77, 5)),
        "fp8-all": fp8(rows.view(e4m3), extremes[:, None, None].repeat(1, 1, 2)),
        "fp8-e5m2": fp8(rows.view(e5m2), extremes[:, None, None].repeat(1, 1, 2)),
        "fp8-bf16-scales": fp8(draw(256, 384).view(e4m3), uniform(2, 3).bfloat16()),
        "fp8-power-scales": fp8(draw(256, 256).view(e4m3), draw(256, 8)),
        "fp8-one-block": fp8(draw(60, 100).view(e4m3), uniform(1, 1)),
        "fp8-edge": edge(draw(300, 130).view(e4m3), uniform(3, 2)),
    }


def same_bits(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Where two tensors are equal: bit by bit, or both a NaN."""
    kind = BITS[want.element_size()]
    return (got.view(kind) == want.view(kind)) | (got.isnan() & want.isnan())


def check(moe_run: str, folder: Path, name: str, type_: str) -> bool:
    """Whether one tensor in one type is what transformers makes; prints a line."""
    tensors, dequantize = make_cases()[name]
    want = dequantize(TYPES[type_]).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "copy.mlir").write_text(
        COPY.replace("TYPE", "x".join(map(str, want.shape)) + f"x{type_}"))
    file = folder / "model.safetensors"
    source = ["--input", f"in={file}:w"] if type_ == "f16" else ["--weights", file]
    subprocess.run([moe_run, folder / "copy.mlir", *source, "--output", folder / "out.safetensors"],
                   check=True, stdout=subprocess.DEVNULL)
    got = load_file(folder / "out.safetensors")["w"]
    good = got.dtype == want.dtype and got.shape == want.shape
    unequal = int((~same_bits(got, want)).sum()) if good else -1
    print(f"{'DIFFERS' if unequal else 'same'}: {name} {type_}: {unequal} of {want.numel()} values "
          f"differ, {int(want.isnan().sum())} are NaN, {int(want.isinf().sum())} infinite")
    return unequal == 0


def main() -> int:
    """Check all tensors in all types."""
    moe_run, folder = sys.argv[1], Path(sys.argv[2])
    results = [check(moe_run, folder / f"{name}-{type_}", name, type_)
               for name in make_cases() for type_ in TYPES]
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
