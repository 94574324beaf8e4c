"""Draw where the tokens went: layers or steps × experts, from files of `moe-run --stats=FILE.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

VALUES = {"load": "load (1: even)", "contribution": "contribution (share of the layer's norms)"}


class Row(NamedTuple):
    """A layer of a file: its values, one an expert, and the entropy of its load in bits."""

    label: str
    values: np.ndarray
    entropy: float


def _values(layer: dict, value: str, where: str) -> np.ndarray:
    if value == "load":
        return np.asarray(layer["share"], np.float64) * layer["experts"]
    norms = layer["contribution"]
    if norms is None:
        raise ValueError(f"{where} has no contribution norms; draw the load, or see "
                         "--remarks-filter-missed=moe-instrument")
    norms = np.asarray([np.nan if norm is None else norm for norm in norms], np.float64)
    total = np.nansum(norms)
    return norms / total if total > 0 else norms


def read(paths: Sequence[str | Path], value: str = "load") -> list[Row]:
    """The layers of all files, in order. ValueError for a file of another kind."""
    rows: list[Row] = []
    for path in map(Path, paths):
        try:
            layers = json.loads(path.read_text(encoding="utf-8"))["layers"]
            for i, layer in enumerate(layers):
                label = path.stem if len(layers) == 1 else f"{path.stem} {i}"
                rows.append(Row(label, _values(layer, value, f"layer {i} of {path}"),
                                layer["entropy_bits"]))
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no file of moe-run --stats=FILE.json") from error
    if not rows:
        raise ValueError(f"no layer in {', '.join(map(str, paths))}")
    for row in rows[1:]:
        if len(row.values) != len(rows[0].values):
            raise ValueError(f"{row.label} has {len(row.values)} experts, but {rows[0].label} has "
                             f"{len(rows[0].values)}; draw them apart")
    return rows


def save(path: str | Path, rows: Sequence[Row], value: str = "load", title: str = "") -> None:
    """A picture with a row a layer and a column an expert; few experts get numbers as well."""
    table = np.stack([row.values for row in rows])
    count, experts = table.shape
    width = min(16.0, max(5.0, 0.5 * experts)) + 2.5
    figure, axis = pyplot.subplots(layout="constrained",
                                   figsize=(width, min(16.0, 0.36 * count) + 1.3))
    top = max(np.nanmax(table, initial=0), 2.0 if value == "load" else 2.0 / max(experts, 1))
    image = axis.imshow(table, cmap="Blues", vmin=0, vmax=top, aspect="auto",
                        interpolation="nearest")
    if experts <= 32:
        for (row, column), number in np.ndenumerate(table):
            axis.text(column, row, f"{number:.2f}", ha="center", va="center", fontsize=7,
                      color="white" if number > 0.55 * top else "black")
        axis.set_xticks(range(experts))
    if count <= 64:
        axis.set_yticks(range(count), [f"{row.label} ({row.entropy:.2f} bits)" for row in rows])
    axis.set(xlabel="expert", title=title)
    figure.colorbar(image, ax=axis, label=VALUES[value])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
