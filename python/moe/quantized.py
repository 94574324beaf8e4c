"""Dequantize published checkpoints with numpy: fp8 with a scale a block, and mxfp4.

`moe-run` does this when it binds weights (`docs/Import.md` has the layouts); whoever calls a
compiled layer passes bf16 weights, and gets them here:

    weights = quantized.dequantize(tensors.load("model.safetensors")[0])

Values are those that transformers dequantizes to: products in f32, and one rounding when they are
stored in another type (`tensors.bf16_bits`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BLOCK = 128
_E2M1 = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def _block_size(size: int, count: int) -> int | None:
    """How many of `size` values share one of `count` scales."""
    if count == -(-size // BLOCK):
        return BLOCK
    return size // count if count and size % count == 0 else None


def _spread(scales: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each scale at every value of its block."""
    for axis in (-2, -1):
        block = _block_size(shape[axis], scales.shape[axis])
        if block is None:
            raise ValueError(f"{scales.shape[axis]} scales along a dimension of {shape[axis]}: one "
                             f"for each {BLOCK} values makes {-(-shape[axis] // BLOCK)}")
        scales = np.repeat(scales, block, axis)
    return scales[..., :shape[-2], :shape[-1]]


def dequantize_fp8(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The values of codes `…×N×K` and a scale for each 128×128 of them → `…×N×K` float32.

    uint8 scales are 2^(s − 127). The last blocks may be smaller; where the number of scales is not
    that of such blocks, it must divide N, or K.
    """
    codes, scales = np.asarray(codes, np.float32), np.asarray(scales)
    if codes.ndim < 2 or scales.ndim != codes.ndim or scales.shape[:-2] != codes.shape[:-2]:
        raise ValueError(f"scales of shape {scales.shape} don't belong to codes of {codes.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        if scales.dtype == np.uint8:
            scales = np.ldexp(np.float32(1), scales.astype(np.int32) - 127)
        return codes * _spread(scales.astype(np.float32), codes.shape)


def dequantize_mxfp4(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Blocks `E×N×G×16` and scales `E×N×G`, both uint8 → `E×32G×N` float32: transposed, as
    transformers has it."""
    blocks, scales = np.asarray(blocks), np.asarray(scales)
    if blocks.ndim != 4 or blocks.shape[3] != 16 or blocks.shape[:3] != scales.shape:
        raise ValueError(f"blocks {blocks.shape} and scales {scales.shape} aren't E×N×G×16 and "
                         "E×N×G")
    experts, outputs, groups, _ = blocks.shape
    pairs = np.stack([_E2M1[blocks & 15], _E2M1[blocks >> 4]], -1).reshape(*scales.shape, 32)
    with np.errstate(over="ignore"):
        values = np.ldexp(pairs, scales[..., None].astype(np.int32) - 127)
    return np.ascontiguousarray(values.reshape(experts, outputs, groups * 32).swapaxes(1, 2))


def dequantize(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint's tensors under the names that they have in one that is not quantized.

    Raises ValueError, naming the tensor, when scales are missing or don't fit.
    """
    result = {}
    for name, value in tensors.items():
        try:
            if f"{name}_scale_inv" in tensors:
                result[name] = dequantize_fp8(value, tensors[f"{name}_scale_inv"])
            elif name.endswith("_blocks"):
                plain = name.removesuffix("_blocks")
                if f"{plain}_scales" not in tensors:
                    raise ValueError(f"there is no {plain}_scales")
                result[plain] = dequantize_mxfp4(value, tensors[f"{plain}_scales"])
            elif not _is_scales(name, tensors):
                result[name] = value
        except ValueError as error:
            raise ValueError(f"tensor {name!r}: {error}") from None
    return result


def _is_scales(name: str, tensors: Mapping[str, np.ndarray]) -> bool:
    return any(name.endswith(mine) and name.removesuffix(mine) + codes in tensors
               for mine, codes in (("_scale_inv", ""), ("_scales", "_blocks")))
