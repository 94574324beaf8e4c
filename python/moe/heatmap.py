"""Draw which expert serves which class of token (matplotlib, no window)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


class Panel(NamedTuple):
    """One layer: `table` is the count of choices, `classes×experts`, of specialization.joint."""

    title: str
    table: np.ndarray
    classes: Sequence[str]
    top_k: int  # choices a token


def save(path: str | Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """A picture with a panel a layer: the share of each class's tokens that each expert serves.

    Rows sum to k · 100 %; a class that does not occur stays blank.
    """
    rows = -(-len(panels) // columns)
    heights = [max(len(p.classes) for p in panels[r * columns:(r + 1) * columns])
               for r in range(rows)]
    figure, axes = pyplot.subplots(
        rows, columns, squeeze=False, layout="constrained", height_ratios=heights,
        figsize=(5.2 * columns, sum(0.34 * h + 1.1 for h in heights)))
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels):
        table = np.asarray(panel.table, np.float64)
        total = table.sum(1, keepdims=True)
        share = np.divide(100 * panel.top_k * table, total, where=total > 0,
                          out=np.full_like(table, np.nan))
        axis.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if value > 55 else "black")
        axis.set(title=panel.title, xlabel="expert", xticks=range(table.shape[1]),
                 yticks=range(len(panel.classes)), yticklabels=panel.classes)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
