"""benchmarks/: the statistics, the case file, and a run of the harness on the smallest case."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import data  # noqa: E402
import report as reporting  # noqa: E402
import stats  # noqa: E402
from cases import CASES, SUITES  # noqa: E402
from machine import Roof  # noqa: E402


def test_interval_of_known_samples():
    """The ends of binomial tables: 6 values give their extremes, 10 the 2nd and the 9th."""
    assert stats.median_interval(list(range(6))) == (0, 5)
    assert stats.median_interval(list(range(10))) == (1, 8)
    assert stats.median_interval(list(range(100))) == (39, 60)
    assert stats.median_interval([1.0] * 5) == (-math.inf, math.inf)


def test_interval_covers_the_median():
    """Of skewed noise, in at least 95 of 100 draws (fixed seed)."""
    draw = random.Random(7)
    inside = 0
    for _ in range(1000):
        low, high = stats.median_interval([draw.expovariate(1.0) for _ in range(25)])
        inside += low <= math.log(2) <= high
    assert inside >= 950 - 20


@pytest.mark.parametrize("factor, expected", [(1.2, "won"), (0.99, "tied"), (0.8, "lost")])
def test_verdict_despite_drift(factor, expected):
    """Both times drift by 1.5x, and every tenth is an outlier: pairs still tell."""
    draw, ours, peer = random.Random(3), [], []
    for at in range(100):
        base = 1 + 0.5 * at / 100
        ours.append(base * draw.uniform(0.995, 1.005) * (4 if at % 10 == 3 else 1))
        peer.append(base * factor * draw.uniform(0.995, 1.005))
    ratio = stats.paired_ratio(ours, peer)
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.median == pytest.approx(factor, rel=0.01)
    assert stats.verdict(ratio) == expected


def test_few_pairs_stay_open():
    assert stats.verdict(stats.paired_ratio([1.0] * 5, [2.0] * 5)) == "open"
    with pytest.raises(ValueError, match="2 times of ours but 1 of the peer"):
        stats.paired_ratio([1.0, 1.0], [1.0])


def test_bound_is_the_larger():
    roof = Roof(2, 1e9, {"f32": 1e10, "bf16": 2e10}, 1 << 20)
    assert roof.bound(10**6, 10**6, "f32") == (1e-3, "memory")
    assert roof.bound(10**8, 10**6, "bf16") == (5e-3, "arithmetic")


def test_case_file():
    """A counts what its model's sizes say, and suites name cases that exist."""
    olmoe = CASES["A"]
    assert olmoe.expert_bytes("bf16") == 3 * 2048 * 1024 * 2
    assert olmoe.flops(1) == 8 * 6 * 2048 * 1024 + 2 * 2048 * 64
    assert CASES["N"].expert_bytes("bf16") == 2 * 2688 * 1856 * 2
    assert all(line.case in CASES for suite in SUITES.values() for line in suite)


def test_inputs_exceed_the_cache():
    """Four times the cache, or as many inputs as are allowed."""
    case = CASES["tiny"]
    weights = data.make_weights(case, "bf16")
    cache = 2 * case.expert_bytes("bf16")
    inputs, met = data.make_inputs(case, weights, 1, cache)
    assert len(inputs) == 4 and met == [2] * 4
    assert len(data.make_inputs(case, weights, 1, 1 << 40)[0]) == 64
    assert np.unique(weights.gate, axis=0).shape[0] == case.experts


def test_reference_of_one_expert():
    """All of k = E = 1: the layer is its only expert."""
    case = CASES["tiny"]._replace(experts=1, top_k=1, hidden=2, inner=1)
    weights = data.Weights("f32", np.zeros((1, 2), "f4"), np.array([[[1, 0]]], "f4"),
                           np.array([[[0, 2]]], "f4"), np.array([[[1], [-1]]], "f4"))
    inner = 3 / (1 + math.exp(-3)) * 2 * 5
    got = data.reference(case, weights, np.array([[3, 5]], "f4"))
    np.testing.assert_allclose(got, [[inner, -inner]], rtol=1e-14)
    assert data.error(np.array([[np.nan, 0]]), np.ones((1, 2))) == math.inf


def _run(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess, Path]:
    out = folder / "out.json"
    command = [sys.executable, BENCHMARKS / "run.py", "--pairs=2", f"--json={out}", *options]
    return subprocess.run(command, capture_output=True, text=True), out


def test_harness_on_a_tiny_case(tmp_path):
    """Two pairs against torch: checked with float64, fields there, table and picture written."""
    done, out = _run(tmp_path, "--case=tiny", "--type=bf16", "--tokens=1,3", "--threads=1",
                     "--peers=torch-eager", f"--picture={tmp_path / 'roof.png'}")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["cpu"] and report["date"] and report["not_run"] == []
    assert [(p["case"], p["dtype"], p["tokens"], p["threads"], p["peer"], p["pairs"])
            for p in report["points"]] == [("tiny", "bf16", t, 1, "torch-eager", 2) for t in (1, 3)]
    for point in report["points"]:
        assert 0 < point["ours_error"] < 3e-2 and 0 < point["peer_error"] < 3e-2
        assert point["ours_seconds"] > 0 and point["peer_seconds"] > 0
        assert point["verdict"] == "open" and point["ratio_interval"] is None
        assert point["ours_share"] == pytest.approx(point["bound_seconds"] / point["ours_seconds"])
        assert "strict" in point["ours_rounding"] and point["roof"]["threads"] == 1
    assert done.stdout.endswith(reporting.markdown(report))
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


def test_bad_command_lines(tmp_path, monkeypatch):
    """Each says what is wrong; nothing is written."""
    monkeypatch.setenv("MOE_PEERS", str(tmp_path))
    for options, message in (
            (["--case=Z"], "'Z' is none of A, B"), (["--case=A", "--tokens=0"], "'0' is not a list"),
            ([], "--suite or --case"), (["--case=A", "--peers=zentorch"], "benchmarks/setup-peer zentorch")):
        done, out = _run(tmp_path, *options)
        assert done.returncode and message in done.stderr and not out.exists()


def test_case_without_weights(tmp_path):
    """G has none yet: told in the report, and the run fails."""
    done, out = _run(tmp_path, "--case=G", "--peers=torch-eager")
    assert done.returncode == 1
    [entry] = json.loads(out.read_text())["not_run"]
    assert entry["case"] == "G" and "there are no weights" in entry["reason"]
