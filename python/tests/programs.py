"""Random layers as programs: many functions a module, lowered by several pipelines, and called.

A `Column` is a way to LLVM: flags of moe-opt, in stages. `build` makes a shared object of the
functions of a module, `call` runs one of them on numpy arrays, `check` says whether what it
computed is right.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bounded import Bounded, check as check_bounded
from moe import reference
from moe.tensors import bf16_bits, from_bf16_bits
from random_layers import Layer, make_layer
from random_text import HEADER

Array = np.ndarray
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 240  # seconds for a module, or for running it
_NUMPY = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i32": np.int32,
          "i64": np.int64}


@dataclass(frozen=True)
class Column:
    """A name, and the flags of moe-opt for each stage from moe ops to the LLVM dialect."""

    name: str
    stages: tuple[tuple[str, ...], ...]

    @staticmethod
    def parse(text: str) -> Column:
        """`NAME=FLAGS | FLAGS …`, flags as a shell reads them."""
        name, _, stages = text.partition("=")
        return Column(name, tuple(tuple(shlex.split(stage)) for stage in stages.split("|")))

    def __str__(self) -> str:
        return f"{self.name}={' | '.join(map(shlex.join, self.stages))}"


@dataclass(frozen=True)
class Case:
    """A layer of `random_layers`, without some of its parts."""

    seed: int
    without: tuple[str, ...] = ()

    def layer(self) -> Layer:
        return make_layer(self.seed, rounded=True, without=frozenset(self.without))


class Broken(Exception):
    """A tool failed on a module."""


# --- from text to a shared object -----------------------------------------------------------------

@cache
def find_tool(name: str) -> str:
    """Of $MOE_BIN, or our build folder, or the LLVM that it was configured with, or the PATH."""
    ours = Path(os.environ.get("MOE_BIN", ROOT / "build/bin")) / name
    if ours.is_file():
        return str(ours)
    cached = (ROOT / "build/CMakeCache.txt").read_text(encoding="utf-8")
    mlir = re.search(r"^MLIR_DIR:[A-Z]*=(.*)$", cached, re.MULTILINE)
    theirs = Path(mlir[1]).parents[2] / "bin" / name if mlir else Path(name)
    found = str(theirs) if theirs.is_file() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is neither built nor installed")
    return found


def has_pipeline(name: str) -> bool:
    done = subprocess.run([find_tool("moe-opt"), "--help"], capture_output=True, text=True,
                          check=True)
    return re.search(rf"^\s+--{re.escape(name)}\b", done.stdout, re.MULTILINE) is not None


def module_text(cases: Sequence[Case]) -> str:
    """A function `layer_SEED` a case; it can be called from C."""
    functions = []
    for case in cases:
        text = case.layer().text[len(HEADER):].replace("@layer(", f"@layer_{case.seed}(")
        signature, body = text.split(" {\n", 1)
        functions.append(f"{signature}\n    attributes {{llvm.emit_c_interface}} {{\n{body}")
    return HEADER + "\n".join(functions)


def _run(stage: str, *command: str | Path) -> None:
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                              timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Broken(f"{stage}: not done after {TIMEOUT} s") from None
    if done.returncode:
        raise Broken(f"{stage}: exit status {done.returncode}\n{done.stderr[:4000]}")


# What LLVM calls to round an integer to bf16 where the machine has no instruction: compiler-rt has
# it, older versions of libgcc do not.
_ROUND_TO_BF16 = """
#include <string.h>
__bf16 __truncsfbf2(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  unsigned short high = value != value ? bits >> 16 | 64
                                       : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  __bf16 result;
  memcpy(&result, &high, 2);
  return result;
}
"""


@cache
def _target() -> list[str]:
    """Flags of llc; f16 has instructions from this x86 on."""
    return ["-mcpu=x86-64-v3"] if platform.machine() == "x86_64" else []


def build(text: str, column: Column, folder: Path, sanitize: bool = False) -> Path:
    """A shared object; files of the stages stay in `folder`. Raises Broken.

    With `sanitize`, its loads and stores are checked by AddressSanitizer.
    """
    source = folder / "module.mlir"
    source.write_text(text, encoding="utf-8")
    for i, stage in enumerate(column.stages):
        made = folder / f"{column.name}-{i}.mlir"
        _run(f"{column.name}: moe-opt {' '.join(stage)}", find_tool("moe-opt"), source, *stage,
             "--mlir-disable-threading", "-o", made)
        source = made
    stem = folder / column.name
    ir, obj, shared = (stem.with_suffix(suffix) for suffix in (".ll", ".o", ".so"))
    # A lowering may leave attributes of dialects that mlir-translate does not know.
    _run(f"{column.name}: mlir-translate", find_tool("mlir-translate"), "--mlir-to-llvmir",
         "--allow-unregistered-dialect", source, "-o", ir)
    helper = folder / "round.c"
    helper.write_text(_ROUND_TO_BF16, encoding="utf-8")
    link = [find_tool("clang"), "-shared", "-fPIC", helper, "-o", shared, "-lm"]
    if sanitize:
        _mark_for_sanitizer(ir)
        _run(f"{column.name}: clang", *link, "-fsanitize=address", "-shared-libasan",
             *(flag.replace("-mcpu", "-march") for flag in _target()), ir)
        return shared
    _run(f"{column.name}: llc", find_tool("llc"), "-O0", "-filetype=obj", "-relocation-model=pic",
         *_target(), ir, "-o", obj)
    _run(f"{column.name}: link", *link, obj)
    return shared


def _mark_for_sanitizer(ir: Path) -> None:
    """The pass of the sanitizer leaves functions alone that do not ask for it."""
    text = re.sub(r"^(define .*) \{$", r"\1 sanitize_address {", ir.read_text(encoding="utf-8"),
                  flags=re.MULTILINE)
    ir.write_text(text, encoding="utf-8")


def sanitizer_environment() -> dict[str, str]:
    """For a process that loads what `build` made with `sanitize`: buffers come from its malloc."""
    name = f"libclang_rt.asan-{platform.machine()}.so"
    found = subprocess.run([find_tool("clang"), f"-print-file-name={name}"], capture_output=True,
                           text=True, check=True).stdout.strip()
    return os.environ | {"LD_PRELOAD": found, "ASAN_OPTIONS": "detect_leaks=0"}


def count_ops(folder: Path, column: Column) -> dict[str, dict[str, int]]:
    """moe ops by function, after the first of several stages."""
    counts: dict[str, dict[str, int]] = {}
    if len(column.stages) < 2:
        return counts
    name = ""
    for line in (folder / f"{column.name}-0.mlir").read_text(encoding="utf-8").splitlines():
        if function := re.search(r"func\.func @(\w+)\(", line):
            name = function[1]
            counts[name] = {}
        elif op := re.search(r"(?:= |^\s*)(moe\.\w+) ", line):
            counts[name][op[1]] = counts[name].get(op[1], 0) + 1
    return counts


# --- calling --------------------------------------------------------------------------------------

def _stored(array: Array, kind: str) -> Array:
    """float32 values as what the function takes; a copy, as functions may write to it."""
    bits = bf16_bits(array) if kind == "bf16" else array
    return np.array(bits, _NUMPY[kind], order="C")


def _descriptor(array: Array) -> ctypes.Array:
    strides = [stride // array.itemsize for stride in array.strides]
    at = array.ctypes.data
    return (ctypes.c_int64 * (3 + 2 * array.ndim))(at, at, 0, *array.shape, *strides)


def _read(words: Sequence[int], rank: int, kind: str) -> Array:
    """A copy of a row-major memref."""
    shape, dtype = tuple(words[3:3 + rank]), np.dtype(_NUMPY[kind])
    size = int(np.prod(shape)) * dtype.itemsize
    data = (ctypes.c_char * size).from_address(words[1] + words[2] * dtype.itemsize) if size else b""
    array = np.frombuffer(data, dtype).reshape(shape).copy()
    return from_bf16_bits(array) if kind == "bf16" else array


def call(library: ctypes.CDLL, name: str, layer: Layer, inputs: dict[str, Array]
         ) -> dict[str, Array]:
    """The results of a function, by name; bf16 as float32."""
    arrays = [_stored(inputs[a.name], a.kind) for a in layer.arguments]
    descriptors = [_descriptor(array) for array in arrays]
    ranks = [type_.split("<")[1].count("x") for _, type_, _ in layer.results]
    words = (ctypes.c_int64 * sum(3 + 2 * rank for rank in ranks))()
    function = getattr(library, f"_mlir_ciface_{name}")
    function.restype = None
    function(words, *descriptors)
    results, begin = {}, 0
    libc = ctypes.CDLL(None)
    libc.free.argtypes = [ctypes.c_void_p]
    owned = set()
    for (result, _, kind), rank in zip(layer.results, ranks, strict=True):
        part = words[begin:begin + 3 + 2 * rank]
        results[result] = _read(part, rank, kind)
        owned.add(part[0])
        begin += 3 + 2 * rank
    for address in owned - {array.ctypes.data for array in arrays} - {0}:
        libc.free(address)
    return results


# --- what is right --------------------------------------------------------------------------------

def _scores(layer: Layer, inputs: dict[str, Array]) -> tuple[Bounded, Array]:
    """Scores of a rounded router, and a bound on the error of its keys: sums in any order."""
    logits = layer.make_logits(inputs)
    wr = np.abs(np.float64(inputs["wr"]))
    most = np.abs(np.float64(inputs["x"])) @ (wr if layer.router_by_rows else wr.T)
    most = most + np.abs(inputs.get("router_bias", 0))
    error = (layer.hidden + 3) * 2.0 ** -24 * most
    if layer.router_cap:  # Of slope 1 at most; a quotient, tanh and a product.
        error = error + 2.0 ** -20 * layer.router_cap
    if layer.router_narrow:
        error = error + 2.0 ** -8 * (np.abs(logits) + error)
    value = np.array([reference.scores(row, layer.score) for row in logits]).reshape(logits.shape)
    # How fast a score grows: its logarithm is nowhere steeper than this.
    if layer.score == "softmax":
        change = value * np.expm1(2 * error.max(1, initial=0, keepdims=True))
    elif layer.score == "none":
        change = error
    else:
        change = value * np.expm1(error * {"sigmoid": 1, "sqrt_softplus": 0.5}[layer.score])
    rounding = (32 + layer.num_experts / 8) * 2.0 ** -23 * np.abs(value)
    return Bounded(value, change + rounding), change + rounding


def _check_margins(layer: Layer, inputs: dict[str, Array], ids: Array, scores: Bounded,
                   error: Array) -> None:
    """Ids are equal to the reference's wherever the margin is beyond the bound: the design's rule."""
    keys = scores.value + inputs.get("bias", 0)
    error = error + 2.0 ** -23 * np.abs(keys)
    for t, chosen in enumerate(ids):
        assert len(set(chosen)) == layer.k and ((0 <= chosen) & (chosen < layer.num_experts)).all(), \
            f"ids of token {t} are {chosen}"
        high, low = keys[t] + error[t], keys[t] - error[t]
        others = np.setdiff1d(np.arange(layer.num_experts), chosen)
        assert high[chosen].min() >= low[others].max(initial=-np.inf), (
            f"token {t} chose {chosen}, but {others[low[others].argmax()]} is better by more than "
            f"the bound")
        assert (high[chosen[:-1]] >= low[chosen[1:]]).all(), f"token {t}: {chosen} is out of order"


def _check_routing(layer: Layer, inputs: dict[str, Array], actual: dict[str, Array]) -> None:
    if layer.router != "rounded":
        expected = layer.expect(inputs)
        np.testing.assert_array_equal(actual["ids"], expected["ids"], "ids")
        check_bounded("weights", actual["weights"], expected["weights"])
        return
    scores, error = _scores(layer, inputs)
    _check_margins(layer, inputs, actual["ids"], scores, error)
    picked = Bounded(np.take_along_axis(scores.value, actual["ids"], 1),
                     np.take_along_axis(scores.error, actual["ids"], 1))
    if layer.renormalize:
        total = picked.sum(1)
        eps = Bounded(np.full(total.value.shape, layer.renormalize.eps))
        total = total + eps if layer.renormalize.mode == "add" else total.maximum(eps)
        picked = picked / Bounded(total.value[:, None], total.error[:, None])
    check_bounded("weights", actual["weights"], picked * Bounded(layer.scale * layer.weight_scale))


def check(layer: Layer, inputs: dict[str, Array], actual: dict[str, Array]) -> None:
    """Raises AssertionError unless the routing is right, and all else for that routing."""
    routed = None
    if layer.score is not None:
        _check_routing(layer, inputs, actual)
        routed = Bounded(actual["weights"]), actual["ids"]
    for name, expected in layer.expect(inputs, routed).items():
        if isinstance(expected, Bounded):
            check_bounded(name, actual[name], expected)
        else:
            np.testing.assert_array_equal(actual[name], expected, name)


def token_counts(layer: Layer, random: np.random.Generator) -> tuple[int, ...]:
    if not isinstance(layer.tokens, str):
        return (layer.tokens,)
    several = int(random.integers(2, 9))
    # More rows than a block of code has; a narrow sum of as many has no bound.
    many = random.random() < 0.03 and not layer.column_sums
    return 0, 1, 150 if many else several
