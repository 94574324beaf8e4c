"""What a variant computes on the GPU, against float64, against itself, and against other rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import data
from cases import Case
from data import Array, Weights, bf16_bits, widen
from gpu.layer import Call, Layer
from gpu.variants import Artifact
from reference import TOLERANCE, compare, decided_tokens, reference

DISTINCT = 16  # tokens; a batch repeats them, so that each of its rows can be compared
ANY_TOKENS = (0, 1, 7, 130, 777)  # of code for any number


class Expected(NamedTuple):
    """Tokens whose choice of experts is clear, and what a layer must make of them."""

    tokens: Array
    results: Array


class Bench:
    """A case and type: weights on the GPU, and what the right results are."""

    def __init__(self, case: Case, dtype: str, device, distinct: int = DISTINCT) -> None:
        self.case, self.dtype, self.device = case, dtype, device
        self.weights: Weights = data.make_weights(case, dtype)
        tokens = decided_tokens(case, self.weights, distinct)
        self.expected = Expected(tokens, reference(case, self.weights, tokens))
        self._uploaded: dict[str, object] = {}

    def weight(self, role: str):
        """On the GPU; uploaded once."""
        if role not in self._uploaded:
            self._uploaded[role] = self.device.upload(self.weights.tensors[role])
        return self._uploaded[role]

    def stored(self, x: Array) -> Array:
        """Values as the layer takes them."""
        return bf16_bits(x) if self.dtype == "bf16" else x.astype(np.float32)


class Failure(ValueError):
    """A result that is wrong."""


def batches(count: int, distinct: int) -> dict[str, Array]:
    """Which of the distinct tokens the rows of a batch are: mixed, and all the same."""
    mixed = np.random.default_rng(count).permutation(np.arange(count) % distinct)
    return {"mixed": mixed, "equal": np.zeros(count, int)} if count > 1 else {"mixed": mixed}


def check_batch(bench: Bench, artifact: Artifact, layer: Layer, picks: Array,
                repeats: int) -> float:
    """The largest error of a token; Failure where something is wrong."""
    device, expected = bench.device, bench.expected
    x = device.upload(bench.stored(expected.tokens[picks]))
    y = device.allocate(x.shape, bench.dtype)
    weights = [bench.weight(role) for role in artifact.roles]
    call, first = Call(layer, device, [x, *weights, y]), None
    for repeat in range(repeats):
        device.poison(y)
        device.poison(call.workspace)
        call(device.stream())
        device.synchronize()
        bits = device.download(y)
        if first is None:
            first = bits
            continue
        differs = (bits.view(np.uint8) != first.view(np.uint8)).any(axis=1)
        if differs.any():
            rows = np.flatnonzero(differs)
            raise Failure(f"call {repeat + 1} gives other bits than the first, in {len(rows)} of "
                          f"{len(picks)} rows, from row {rows[0]} on")
    if not len(picks):
        return 0.0
    error = compare(widen(first), expected.results[picks]).relative
    if error > TOLERANCE[bench.dtype]:
        row = int(np.argmax(np.nan_to_num(np.abs(widen(first) - expected.results[picks]),
                                          nan=np.inf).max(axis=1)))
        raise Failure(f"the error is {error:.3g}, {TOLERANCE[bench.dtype]:.3g} is allowed; it is "
                      f"largest in row {row}")
    for token in np.unique(picks):
        rows = first[picks == token]
        if not np.array_equal(rows, np.broadcast_to(rows[:1], rows.shape)):
            raise Failure("rows of equal tokens have different bits")
    return error


def check_artifact(bench: Bench, artifact: Artifact, layer: Layer,
                   counts: tuple[int, ...] = ANY_TOKENS, repeats: int = 3) -> dict:
    """Every batch of a variant: its entry of the report."""
    counts = (artifact.variant.tokens,) if artifact.variant.tokens else counts
    worst, calls = 0.0, 0
    for count in counts:
        for name, picks in batches(count, len(bench.expected.tokens)).items():
            try:
                worst = max(worst, check_batch(bench, artifact, layer, picks, repeats))
            except Failure as failure:
                raise Failure(f"T = {count}, {name} tokens: {failure}") from None
            calls += repeats
    return {"name": artifact.variant.name, "tokens": list(counts), "calls": calls,
            "error": worst, "kernels": list(artifact.kernels)}
