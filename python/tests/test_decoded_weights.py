"""Weights that a decode region computes: every element, with every instruction set.

Rows with a single 1 pick an element of the weights each, so results are the decoded numbers
themselves: they are equal to what numpy decodes, for all codes of a format, at all places of odd
sizes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from execution import Array, call, make_compiled, make_random  # noqa: F401
from moe.tensors import _FP8, bf16_bits, round_bf16

EXPERTS, K, N = 5, 333, 19  # Multiples of no vector and no tile; K of two parts in f32.
E2M1 = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def ceil(x: int, y: int) -> int:
    return -(-x // y)


@dataclass(frozen=True)
class Stored:
    """What a decode region reads: an index expression of e, n and k."""

    index: str
    shape: tuple[int, ...]
    kind: str  # of the text; numpy has i8 for those that it has not
    values: Callable[[np.random.Generator, tuple[int, ...]], Array]

    def at(self, array: Array) -> Array:
        """The elements, E×N×K."""
        e, n, k = np.ogrid[:EXPERTS, :N, :K]
        code = self.index.replace("floordiv", "//").replace("mod", "%")
        return array[eval(f"({code},)", {"e": e, "n": n, "k": k})] + np.zeros((1, N, K), array.dtype)


@dataclass(frozen=True)
class Format:
    """Operands, the region's text, and what it computes from all elements (float64, E×N×K)."""

    stored: tuple[Stored, ...]
    kind: str  # what the region yields, and the rows
    region: str
    decode: Callable[..., Array]


def codes(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.integers(-128, 128, shape).astype(np.int8)


def floats(least_special: int) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    """Codes of 8 bits; what is no number is in one column of one expert, twice of each."""
    def make(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        signs = random.integers(0, 2, shape) << 7
        made = random.integers(0, least_special, shape) | signs
        special = np.arange(least_special, 128)
        made[1, 3, :2 * len(special)] = np.repeat(special, 2)
        return made.astype(np.uint8).view(np.int8)
    return make


def scales(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return (random.normal(size=shape) + 2).astype(np.float32)


def exponents(low: int, high: int) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    return lambda random, shape: random.integers(low, high, shape).astype(np.uint8).view(np.int8)


def fp8(name: str) -> Callable[[Array], Array]:
    return lambda code: _FP8[name][code.view(np.uint8)]


def e2m1(byte: Array, odd: Array) -> Array:
    return E2M1[byte.view(np.uint8) >> 4 * odd & 15]


def e8m0(code: Array) -> Array:
    power = np.ldexp(np.float64(1), code.view(np.uint8).astype(np.int32) - 127)
    return np.where(code.view(np.uint8) == 255, np.nan, power)


ODD = np.arange(K) % 2
NK = (EXPERTS, N, K)
BLOCKS = (EXPERTS, N, ceil(K, 32), 16)
MX = (Stored("e, n, k floordiv 32, k mod 32 floordiv 2", BLOCKS, "i8", codes),
      Stored("e, n, k floordiv 32", BLOCKS[:3], "i8", exponents(100, 150)))
MX_ALL = (MX[0], Stored(MX[1].index, MX[1].shape, "i8", exponents(0, 256)))
NIBBLE = """\
    %two = arith.constant 2 : index
    %four = arith.constant 4 : i8
    %zero = arith.constant 0 : index
    %odd = arith.remui %k, %two : index
    %is_odd = arith.cmpi ne, %odd, %zero : index
    %high = arith.shrui %byte, %four : i8
    %nibble = arith.select %is_odd, %high, %byte : i8
    %low = arith.trunci %nibble : i8 to i4
    %code = arith.bitcast %low : i4 to f4E2M1FN
    %number = arith.extf %code : f4E2M1FN to f32
    %exponent = arith.bitcast %e : i8 to f8E8M0FNU
    %power = arith.extf %exponent : f8E8M0FNU to f32
    %value = arith.mulf %number, %power : f32
"""
MX_REGION = "  ^bb0(%n: index, %k: index, %byte: i8, %e: i8):\n" + NIBBLE
TO_BF16 = "    %low16 = arith.truncf %value : f32 to bf16\n    moe.yield %low16 : bf16\n"
TO_F32 = "    moe.yield %value : f32\n"


def mx(byte: Array, exponent: Array) -> Array:
    return e2m1(byte, ODD) * e8m0(exponent)


FORMATS = {
    # DeepSeek-V3: a scale a block of columns and k.
    "fp8": Format(
        (Stored("e, n, k", NK, "i8", floats(0x7f)),
         Stored("e, n floordiv 8, k floordiv 128", (EXPERTS, ceil(N, 8), ceil(K, 128)), "f32",
                scales)), "bf16", """\
  ^bb0(%n: index, %k: index, %c: i8, %scale: f32):
    %code = arith.bitcast %c : i8 to f8E4M3FN
    %number = arith.extf %code : f8E4M3FN to f32
    %value = arith.mulf %number, %scale : f32
""" + TO_BF16, lambda c, s: round_bf16(fp8("F8_E4M3")(c) * s)),
    # A scale a row, in f32; blocks of k that are multiples of no vector, in e5m2.
    "e4m3": Format(
        (Stored("e, n, k", NK, "i8", floats(0x7f)), Stored("e, n", NK[:2], "f32", scales)),
        "f32", """\
  ^bb0(%n: index, %k: index, %c: i8, %scale: f32):
    %code = arith.bitcast %c : i8 to f8E4M3FN
    %number = arith.extf %code : f8E4M3FN to f32
    %value = arith.mulf %number, %scale : f32
""" + TO_F32, lambda c, s: fp8("F8_E4M3")(c) * s),
    "e5m2": Format(
        (Stored("e, n, k", NK, "i8", floats(0x7c)),
         Stored("e, k floordiv 5, n", (EXPERTS, ceil(K, 5), N), "f32", scales)), "f32", """\
  ^bb0(%n: index, %k: index, %c: i8, %scale: f32):
    %code = arith.bitcast %c : i8 to f8E5M2
    %number = arith.extf %code : f8E5M2 to f32
    %value = arith.mulf %number, %scale : f32
""" + TO_F32, lambda c, s: fp8("F8_E5M2")(c) * s),
    # gpt-oss: two codes in a byte, a power of two for 32.
    "mxfp4": Format(MX, "bf16", MX_REGION + TO_BF16, lambda b, e: round_bf16(mx(b, e))),
    "mxfp4_f32": Format(MX_ALL, "f32", MX_REGION + TO_F32, mx),
    # Groups of 8, fewer than a vector's lanes; numbers of n and k.
    "int4": Format(
        (Stored("e, n, k floordiv 2", (EXPERTS, N, ceil(K, 2)), "i8", codes),
         Stored("e, n, k floordiv 8", (EXPERTS, N, ceil(K, 8)), "f32", scales)), "f32", """\
  ^bb0(%n: index, %k: index, %byte: i8, %scale: f32):
    %one = arith.constant 1 : index
    %two = arith.constant 2 : i8
    %four = arith.constant 4 : i8
    %odd = arith.andi %k, %one : index
    %o = arith.index_cast %odd : index to i32
    %o8 = arith.trunci %o : i32 to i8
    %twice = arith.shli %o8, %two : i8
    %left = arith.subi %four, %twice : i8
    %place = arith.shli %byte, %left : i8
    %nibble = arith.shrsi %place, %four : i8
    %number = arith.sitofp %nibble : i8 to f32
    %scaled = arith.mulf %number, %scale : f32
    %three = arith.constant 3 : index
    %third = arith.divui %k, %three : index
    %t = arith.index_cast %third : index to i32
    %m = arith.index_cast %n : index to i32
    %place2 = arith.addi %t, %m : i32
    %offset = arith.sitofp %place2 : i32 to f32
    %value = arith.addf %scaled, %offset : f32
""" + TO_F32,
        lambda b, s: ((b >> 4 * ODD & 15 ^ 8) - 8).astype(np.float32) * s
        + (np.arange(K) // 3 + np.arange(N)[:, None]).astype(np.float32)),
    # E×K×N, and a scale for each column.
    "kn": Format(
        (Stored("e, k, n", (EXPERTS, K, N), "i8", codes), Stored("e, n", NK[:2], "f32", scales)),
        "bf16", """\
  ^bb0(%n: index, %k: index, %c: i8, %scale: f32):
    %number = arith.sitofp %c : i8 to f32
    %value = arith.mulf %number, %scale : f32
""" + TO_BF16, lambda c, s: round_bf16(c.astype(np.float32) * s)),
}


def text() -> str:
    """offsets, x in bf16, x in f32, the operands of all formats, an init → results."""
    arguments = [("offsets", f"tensor<{EXPERTS + 1}xi32>"), ("x_bf16", f"tensor<?x{K}xbf16>"),
                 ("x_f32", f"tensor<?x{K}xf32>")]
    body, results = "", []
    for name, form in FORMATS.items():
        types = []
        for i, stored in enumerate(form.stored):
            types.append(f"tensor<{'x'.join(map(str, stored.shape))}x{stored.kind}>")
            arguments.append((f"{name}_{i}", types[-1]))
        reads = ", ".join(f"%{name}_{i}[{s.index}]" for i, s in enumerate(form.stored))
        body += f"""
  %{name} = moe.grouped_matmul offsets(%offsets : tensor<{EXPERTS + 1}xi32>)
      products(%x_{form.kind}[m, k] * decode({reads})
               : tensor<?x{K}x{form.kind}>, {', '.join(types)})
      outs(%init : tensor<?x{N}xf32>) {{
  ^bb0(%p: f32):
    moe.yield %p : f32
  }} decode {{
{form.region}  }}"""
        results.append(f"tensor<?x{N}xf32>")
    arguments.append(("init", f"tensor<?x{N}xf32>"))
    signature = ", ".join(f"%{name}: {type_}" for name, type_ in arguments)
    return (f"func.func @op({signature}) -> ({', '.join(results)}) {{{body}\n  return "
            f"{', '.join(f'%{name}' for name in FORMATS)} : {', '.join(results)}\n}}\n")


def runnable() -> list[tuple[str, ...]]:
    """Compilers' flags for what this machine runs."""
    flags = [("--lowering=general",)]
    if platform.machine() != "x86_64":
        return [("--target-cpu=native",), *flags]
    info = Path("/proc/cpuinfo")
    has = info.read_text(encoding="utf-8").split() if info.exists() else []
    isas = {"generic": "sse2", "avx2": "avx2", "avx512": "avx512vl", "avx512bf16": "avx512_bf16",
            "amx-bf16-emulated": "avx2"}
    return [(f"--isa={isa}",) for isa, flag in isas.items() if flag in has] + flags


def make_arrays(random: np.random.Generator) -> dict[str, list[Array]]:
    return {name: [stored.values(random, stored.shape) for stored in form.stored]
            for name, form in FORMATS.items()}


def run(artifact, offsets: Array, rows: Array, arrays: dict[str, list[Array]]) -> dict[str, Array]:
    inputs = [array for name in FORMATS for array in arrays[name]]
    results = {name: np.zeros((len(rows), N), np.float32) for name in FORMATS}
    call(artifact, offsets, bf16_bits(rows), rows, *inputs, np.zeros((len(rows), N), np.float32),
         *results.values())
    return results


@pytest.mark.parametrize("flags", runnable(), ids="".join)
def test_every_element(flags, compiled, random):
    """Those of two experts; three with fewer rows than a tile, or none."""
    places = [np.arange(K), random.permutation(K), [7], [], [K - 1, 0, 100]]
    offsets = np.cumsum([0, *map(len, places)]).astype(np.int32)
    rows = np.eye(K, dtype=np.float32)[np.concatenate(places).astype(int)]
    arrays = make_arrays(random)
    results = run(compiled(text(), "op", "-O1", *flags), offsets, rows, arrays)
    for name, form in FORMATS.items():
        elements = [s.at(a) for s, a in zip(form.stored, arrays[name], strict=True)]
        with np.errstate(all="ignore"):
            weights = np.float64(np.float32(form.decode(*elements)))
            for expert in range(EXPERTS):
                mine = slice(offsets[expert], offsets[expert + 1])
                np.testing.assert_array_equal(
                    results[name][mine], np.float64(rows[mine]) @ weights[expert].T,
                    f"{name}, expert {expert}")
        share = np.isfinite(results[name]).mean()
        assert 0.5 < share <= 1, f"{name}: {share} of the results are numbers"
        assert share < 1 or name in ("mxfp4", "int4", "kn"), f"{name}: all results are numbers"
