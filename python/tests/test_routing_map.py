"""`scripts/plot-routing` and `moe.routing_map`: values from files of statistics, and a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe import routing_map

ROOT = Path(__file__).resolve().parents[2]


def layer(*tokens: int, contribution=None) -> dict:
    """A layer as moe-run writes it."""
    total = sum(tokens)
    share = [count / total if total else 0 for count in tokens]
    entropy = -sum(p * np.log2(p) for p in share if p)
    return {"experts": len(tokens), "tokens": list(tokens), "share": share, "routed": total,
            "dropped": 0, "nowhere": 0, "entropy_bits": entropy, "max_over_mean": None,
            "contribution": contribution}


def write(path: Path, *layers: dict) -> Path:
    path.write_text(json.dumps({"format": 1, "file": "x", "entry": "f", "layers": list(layers)}))
    return path


def test_values(tmp_path):
    one = write(tmp_path / "one.json", layer(1, 3, 0, 0, contribution=[1.0, 3.0, 0.0, None]))
    two = write(tmp_path / "two.json", layer(2, 2, 2, 2), layer(0, 0, 0, 0))
    rows = routing_map.read([one, two])
    assert [row.label for row in rows] == ["one", "two 0", "two 1"]
    np.testing.assert_array_equal([row.values for row in rows],
                                  [[1, 3, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    assert rows[1].entropy == 2
    (norms,) = routing_map.read([one], "contribution")
    np.testing.assert_array_equal(norms.values, [0.25, 0.75, 0, np.nan])


@pytest.mark.parametrize("experts", [4, 64])
def test_picture(tmp_path, experts):
    files = [write(tmp_path / f"{i}.json", layer(*range(i, experts + i))) for i in range(3)]
    picture = tmp_path / "map.png"
    subprocess.run([sys.executable, ROOT / "scripts" / "plot-routing", "-o", picture, *files],
                   check=True)
    pixels = routing_map.pyplot.imread(picture)
    assert pixels.shape[0] > 100 and pixels.shape[1] > 500
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


def test_errors(tmp_path):
    good = write(tmp_path / "good.json", layer(1, 1))
    cases = {"other.json": ("{}", "no file of moe-run"), "text.json": ("x", "no file of moe-run"),
             "empty.json": ('{"layers": []}', "no layer in")}
    for name, (text, message) in cases.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            routing_map.read([path])
    wide = write(tmp_path / "wide.json", layer(1, 1, 1))
    with pytest.raises(ValueError, match="wide has 3 experts, but good has 2; draw them apart"):
        routing_map.read([good, wide])
    with pytest.raises(ValueError, match="layer 0 of .*good.json has no contribution norms"):
        routing_map.read([good], "contribution")
    result = subprocess.run([sys.executable, ROOT / "scripts" / "plot-routing", "-o",
                             tmp_path / "none.png", good, wide], text=True, capture_output=True,
                            check=False)
    assert result.returncode == 1 and "plot-routing: error: wide has 3" in result.stderr
    assert not (tmp_path / "none.png").exists()
