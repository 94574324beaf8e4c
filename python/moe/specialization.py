"""Which expert serves which class of token: joint counts and mutual information (numpy alone)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BYTE_CLASSES = ("lower", "upper", "digit", "space", "newline", "punctuation", "other")
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))


class Information(NamedTuple):
    """Mutual information between class and expert, in bits."""

    bits: float  # I(class; expert)
    share: float  # I / min(H(class), H(expert)), between 0 and 1
    chance: float  # mean I after the labels are shuffled: what small samples give for nothing


def byte_class(values: np.ndarray) -> np.ndarray:
    """The index into BYTE_CLASSES of each byte (0…255)."""
    values = np.asarray(values)
    def between(low: str, high: str) -> np.ndarray:
        return (values >= ord(low)) & (values <= ord(high))
    is_ascii_print = between("!", "~")
    classes = [between("a", "z"), between("A", "Z"), between("0", "9"),
               (values == ord(" ")) | (values == ord("\t")), values == ord("\n"), is_ascii_print]
    return np.select(classes, range(6), default=6).astype(np.int32)


def joint(labels: np.ndarray, ids: np.ndarray, num_classes: int, num_experts: int,
          weights: np.ndarray | None = None) -> np.ndarray:
    """`num_classes × num_experts` mass: each choice of `ids` (`T×k`) counts once, or its weight.

    Ids outside [0, num_experts) are nowhere and count nothing.
    """
    ids = np.asarray(ids)
    rows = np.broadcast_to(np.asarray(labels)[:, None], ids.shape)
    mass = np.ones(ids.shape) if weights is None else np.asarray(weights, np.float64)
    inside = (ids >= 0) & (ids < num_experts)
    table = np.zeros((num_classes, num_experts))
    np.add.at(table, (rows[inside], ids[inside]), mass[inside])
    return table


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def _bits(table: np.ndarray) -> float:
    p = table / max(table.sum(), 1e-300)
    return _entropy(p.sum(0)) + _entropy(p.sum(1)) - _entropy(p.ravel())


def information(labels: np.ndarray, ids: np.ndarray, num_classes: int, num_experts: int,
                weights: np.ndarray | None = None, shuffles: int = 20) -> Information:
    """Mutual information of class and expert, with the figure that shuffled labels give."""
    table = joint(labels, ids, num_classes, num_experts, weights)
    p = table / max(table.sum(), 1e-300)
    smaller = min(_entropy(p.sum(0)), _entropy(p.sum(1)))
    random = np.random.default_rng(0)
    chance = [_bits(joint(random.permutation(labels), ids, num_classes, num_experts, weights))
              for _ in range(shuffles)]
    bits = _bits(table)
    return Information(bits, bits / smaller if smaller > 0 else 0.0, float(np.mean(chance)))
