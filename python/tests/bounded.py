"""Numbers with a bound on how far a compiled layer may be from them.

A `Bounded` holds what exact arithmetic gives, in float64, and an upper bound on the distance of
what arithmetic in `kind` (f32, bf16, f16) gives that is rounded after each operation: running
error analysis, operation by operation. float64's own rounding is too small to matter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

# Half the distance of neighbouring numbers: relative, and absolute below the normal range.
UNIT = {"f32": 2.0 ** -24, "bf16": 2.0 ** -8, "f16": 2.0 ** -11}
TINY = {"f32": 2.0 ** -150, "bf16": 2.0 ** -134, "f16": 2.0 ** -25}


class NoBound(ArithmeticError):
    """The bounds have grown so large that a divisor may be zero: nothing can be said."""


class Bounded:
    """Exact values, a bound on the error of each, and the type that they have when compiled."""

    def __init__(self, value: Array, error: Array | float = 0.0, kind: str = "f32") -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)
        self.kind = kind

    @property
    def most(self) -> Array:
        """The largest magnitude that the compiled value may have."""
        return np.abs(self.value) + self.error

    def rounded(self, kind: str | None = None, times: float = 1) -> Bounded:
        """After `times` roundings to `kind`."""
        kind = kind or self.kind
        return Bounded(self.value, self.error + times * (UNIT[kind] * self.most + TINY[kind]), kind)

    def _result(self, value: Array, error: Array) -> Bounded:
        """Of an operation in f32 whose result is stored in `kind`."""
        result = Bounded(value, error, "f32").rounded()
        return result if self.kind == "f32" else result.rounded(self.kind)

    def __getitem__(self, at: object) -> Bounded:
        return Bounded(self.value[at], self.error[at], self.kind)

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error, self.kind)

    def __add__(self, other: Bounded) -> Bounded:
        return self._result(self.value + other.value, self.error + other.error)

    def __mul__(self, other: Bounded) -> Bounded:
        return self._result(self.value * other.value,
                            np.abs(self.value) * other.error + self.error * other.most)

    def __truediv__(self, other: Bounded) -> Bounded:
        least = np.abs(other.value) - other.error
        if not (least > 0).all():
            raise NoBound("a divisor may be zero")
        quotient = self.value / other.value
        return self._result(quotient, (self.error + np.abs(quotient) * other.error) / least)

    def maximum(self, other: Bounded) -> Bounded:
        return Bounded(np.maximum(self.value, other.value), np.maximum(self.error, other.error),
                       self.kind)

    def abs(self) -> Bounded:
        return Bounded(np.abs(self.value), self.error, self.kind)

    def monotone(self, f: Callable[[Array], Array], ulps: float = 4) -> Bounded:
        """A monotone function of the C library or of LLVM, wrong by at most `ulps`."""
        value = f(self.value)
        error = np.maximum(np.abs(f(self.value + self.error) - value),
                           np.abs(f(self.value - self.error) - value))
        return self._result(value, error + 2 * ulps * UNIT["f32"] * (np.abs(value) + error))

    def sum(self, axis: int) -> Bounded:
        """Added one by one in `kind`."""
        count, unit = self.value.shape[axis] + 1, UNIT[self.kind] + UNIT["f32"]
        error = self.error.sum(axis) + _gamma(count, unit) * self.most.sum(axis)
        return Bounded(self.value.sum(axis), error + count * TINY[self.kind], self.kind)


def _gamma(count: int, unit: float) -> float:
    """The relative error that `count` roundings may add up to."""
    assert count * unit < 0.5
    return count * unit / (1 - count * unit)


def matmul(x: Bounded, w: Bounded) -> Bounded:
    """x·w with products and sums in f32, in any order."""
    error = x.error @ np.abs(w.value) + np.abs(x.value) @ w.error + x.error @ w.error
    count = w.value.shape[0] + 2
    error = error + _gamma(count, UNIT["f32"]) * (x.most @ w.most) + count * TINY["f32"]
    return Bounded(x.value @ w.value, error, "f32")


def check(name: str, actual: Array, expected: Bounded) -> None:
    """Asserts that `actual` is within the bound; where there is no finite value, that it is it."""
    actual = np.asarray(actual, np.float64)
    assert actual.shape == expected.value.shape, name
    finite = np.isfinite(expected.value)
    np.testing.assert_array_equal(actual[~finite], expected.value[~finite], name)
    distance = np.abs(actual[finite] - expected.value[finite])
    # Nothing is said where the bound is infinite.
    within = (distance <= expected.error[finite]) | np.isposinf(expected.error[finite])
    assert within.all(), (
        f"{name}: {np.count_nonzero(~within)} of {within.size} beyond the bound; the farthest by "
        f"{(distance - expected.error[finite]).max():.3g}, where it was "
        f"{expected.error[finite][(distance - expected.error[finite]).argmax()]:.3g}")
