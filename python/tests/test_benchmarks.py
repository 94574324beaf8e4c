"""benchmarks/: the statistics, the case file, and a run of the harness on the smallest case."""

from __future__ import annotations

import json
import math
import os
import platform
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import data  # noqa: E402
import goals  # noqa: E402
import loops  # noqa: E402
import ours  # noqa: E402
import peers  # noqa: E402
import reference  # noqa: E402
import report as reporting  # noqa: E402
import run  # noqa: E402
import skew  # noqa: E402
import stats  # noqa: E402
from cases import CASES, SUITES  # noqa: E402
from machine import Roof, measure_roof  # noqa: E402
from timing import PeakProbe, interleave  # noqa: E402

SMALL = {"hidden": 32, "inner": 40, "experts": 6, "top_k": 3}


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


def test_roof_between_the_calls():
    """What may bound a point is probed, and the medians count; the rest stays as it was."""
    roof = Roof(2, 1e9, {"f32": 1e10, "bf16": 2e10}, 1 << 20)
    assert roof.worth_probing(10**6, 10**6, "f32") == ["read"]
    assert roof.worth_probing(6 * 10**6, 10**6, "f32") == ["flops", "read"]
    assert roof.worth_probing(6 * 10**6, 10**6, "bf16") == ["read"]
    assert roof.worth_probing(10**8, 10**6, "bf16") == ["flops"]
    assert roof.worth_probing(1, 0, "bf16") == []  # a layer in the cache
    assert roof.meanwhile("bf16", [], []) == roof
    slower = roof.meanwhile("bf16", [2e9, 5e9, 4e9], [1e10, 3e9, 2e9])
    assert slower == Roof(2, 4e9, {"f32": 1e10, "bf16": 3e9}, 1 << 20)
    assert slower.bound(3 * 10**7, 10**6, "bf16") == (1e-2, "arithmetic")


def has_tiles() -> bool:
    """Whether bf16 is multiplied by AMX, which the roof of moe-run does not measure."""
    return "amx_bf16" in Path("/proc/cpuinfo").read_text()


@pytest.mark.parametrize("dtype", ["f32", pytest.param("bf16", marks=pytest.mark.skipif(
    has_tiles(), reason="moe-run measures no AMX"))])
def test_peak_between_the_calls(dtype):
    """The best of some probes is the best peak that moe-run finds: other programs only take away."""
    runtime = ours.load_runtime()
    runtime.moe_rt_set_num_threads(1)
    probe, best, peak = PeakProbe(runtime, dtype), 0.0, 0.0
    for _ in range(8):
        best = max(best, *(probe() for _ in range(50)))
        peak = max(peak, measure_roof.__wrapped__(1).flops[dtype])
        if 0.7 * peak < best < 1.4 * peak:
            break
    assert 0.7 * peak < best < 1.4 * peak


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions of x86-64")
@pytest.mark.parametrize("machine, counts", [
    ("haswell", {"vfmadd": 12}), ("skylake-avx512", {"vfmadd": 24}),
    ("cooperlake", {"vfmadd": 24, "vdpbf16ps": 24}),
    ("sapphirerapids", {"vfmadd": 24, "vdpbf16ps": 24, "tdpbf16ps": 6})])
def test_loops_of_the_peak(machine, counts, tmp_path):
    """Sums enough for the latency, all in registers, on machines that this one need not be."""
    out = tmp_path / "peak.s"
    subprocess.run(["g++", "-O3", "-Wall", "-Wextra", "-Werror", f"-march={machine}", "-fopenmp",
                    "-fPIC", "-S", BENCHMARKS / "peak.cpp", "-o", out], check=True)
    text = re.sub(r"^#.*\n", "", out.read_text(), flags=re.MULTILINE)  # around inline assembly
    loops = re.findall(r"^\.L\w+:\n((?:\t(?!j).*\n)+)\tj\w+\t", text, re.MULTILINE)
    found = {}
    for name in ("vfmadd", "vdpbf16ps", "tdpbf16ps"):
        lines = max((re.findall(rf"^\t{name}\w*\t.*", loop, re.MULTILINE) for loop in loops),
                    key=len)
        assert not any("rsp" in line or "rbp" in line for line in lines)
        found |= {name: len(lines)} if lines else {}
    assert found == counts


# Of f32 products: ten sums, the first of which wait for no other.
PANEL = """
.L1:
	movq	40(%rsp), %r8
	vbroadcastss	(%rdi,%rdx), %ymm15
	vmovups	-32(%r12), %ymm14
	prefetcht0	(%rax)
{products}	addq	%r10, %rax
	addq	$64, %r12
	addq	$4, %rdx
	cmpq	$1022, %rdx
	jne	.L1
"""


def panel(sums: int) -> list[str]:
    """A loop of ten products; each waits for the one `sums` before it."""
    lines = [f"\tvfmadd231ps\t{'32(%r8,%rdx)' if i == 1 else '%ymm14'}, %ymm15, %ymm{i % sums}\n"
             for i in range(10)]
    [loop] = loops.innermost_loops(PANEL.replace("{products}", "".join(lines)))
    return loop


def test_counts_of_a_loop():
    assert loops.count(panel(10), "vfmadd") == loops.Counts(
        products=10, vectors=2, broadcasts=1, stack=1, prefetches=1, others=6)
    assert loops.count(panel(10), "vfmadd").total == 19


needs_fma = pytest.mark.skipif(platform.machine() != "x86_64" or "fma" not in
                               Path("/proc/cpuinfo").read_text(), reason="loops of FMA")


@needs_fma
def test_where_a_loop_reads():
    """Each address has as much of the buffer as it comes over, those on the stack, too."""
    registers = loops.Registers(panel(10))
    assert registers.trips == 255 and registers.numbers == {"r10": 0, "rdx": 2}
    assert set(registers.addresses) == {"40(%rsp)", "rdi", "rax", "r12"}
    assert registers.addresses["r12"] % 64 == 32  # what is before it is read, too
    assert 2 * 1022 + 255 * 64 < registers.bytes < 2 * 1022 + 255 * 64 + 8 * 64


@needs_fma
def test_chains_are_seen():
    """Products that wait for each other take the latency; others are as fast as they can be."""
    runtime = ours.load_runtime()
    one, ten = (loops.measure(panel(sums), "vfmadd", runtime) for sums in (1, 10))
    assert one.share < 0.4 * ten.share and ten.share < 1.2
    assert ten.cycles == pytest.approx(5 / ten.share)


@needs_fma
@pytest.mark.parametrize("old, new, reason", [
    ("cmpq\t$1022, %rdx", "cmpq\t%rcx, %rdx", "does not count up to a constant"),
    ("movq\t40(%rsp), %r8", "movslq\t(%rsp), %r8", "not known here: movslq"),
    ("prefetcht0\t(%rax)", "vmovd\t%xmm1, %eax", "may be an address is computed: vmovd")])
def test_loops_that_cannot_run_alone(old, new, reason):
    with pytest.raises(ValueError, match=reason):
        loops.Registers([line.replace(old, new) for line in panel(10)])


@needs_fma
def test_table_of_loops(tmp_path):
    """What is found is told; nothing found is an error."""
    (tmp_path / "layer.s").write_text("\n".join(["\t" + line for line in panel(10)]).replace(
        "\tmovq", ".L1:\n\tmovq"))
    def table(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, BENCHMARKS / "loops.py", *options],
                              capture_output=True, text=True)
    done = table(str(tmp_path / "layer.s"), "--instruction=vfmadd", "--products=10")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| 10 \| 2 \| 1 \| 1 \| 1 \| 19 \| 1.90 \| \d+% \| \d+\.\d \| 18 KB \|$",
                     done.stdout, re.MULTILINE)
    for options, message in (([str(tmp_path / "layer.s")], "has no loop with so many vdpbf16ps"),
                             ([str(tmp_path / "none.s")], "No such file"),
                             ([str(tmp_path / "layer.s"), "--products=x"], "'x' is not a list")):
        done = table(*options)
        assert done.returncode and message in done.stderr and "Traceback" not in done.stderr


def test_case_file():
    """A counts what its model's sizes say, and suites name cases, types and peers that exist."""
    olmoe = CASES["A"]
    assert olmoe.expert_bytes("bf16") == 3 * 2048 * 1024 * 2
    assert olmoe.flops(1) == 8 * 6 * 2048 * 1024 + 2 * 2048 * 64
    assert CASES["N"].expert_bytes("bf16") == 2 * 2688 * 1856 * 2
    for suite in SUITES.values():
        for line in suite.lines:
            assert line.dtype in CASES[line.case].types
            assert set(line.peers or suite.peers) <= set(peers.PEERS)
            assert set(line.skews) <= set(skew.SKEWS)


def test_who_can_run_what():
    """Each refusal says why."""
    assert peers.refusal("zentorch", CASES["G"], "bf16") is None
    assert "no f32, only bf16" in peers.refusal("vllm-experts", CASES["A"], "f32")
    assert "kind relu2, only swiglu" in peers.refusal("zentorch", CASES["N"], "bf16")
    odd = CASES["A"]._replace(inner=1000)
    assert "multiples of 32, and 2048 and 1000 are not" in peers.refusal("vllm-fused", odd, "f32")


def test_bar_is_asked_of_those_who_can():
    """Every case of the suite `bar` has somebody to beat, in every type."""
    suite = SUITES["bar"]
    for line in suite.lines:
        able = [peer for peer in line.peers or suite.peers
                if not peers.refusal(peer, CASES[line.case], line.dtype)]
        assert able, line


def test_inputs_exceed_the_cache():
    """Four times the cache, or as many inputs as are allowed; the first begins as it is told."""
    case = CASES["tiny"]
    weights = data.make_weights(case, "bf16")
    cache = 2 * case.expert_bytes("bf16")
    first = np.ones((3, case.hidden), np.float32)
    inputs, met = data.make_inputs(case, weights, 1, cache, first)
    assert len(inputs) == 4 and met == [2] * 4
    assert (inputs[0] == 1).all() and not (inputs[1] == 1).all()
    assert len(data.make_inputs(case, weights, 1, 1 << 40)[0]) == 64
    assert np.unique(weights.tensors["gate"], axis=0).shape[0] == case.experts


def test_reference_of_one_expert():
    """All of k = E = 1: the layer is its only expert."""
    case = CASES["tiny"]._replace(experts=1, top_k=1, hidden=2, inner=1)
    weights = data.Weights("f32", {
        "router": np.zeros((1, 2), "f4"), "gate": np.array([[[1, 0]]], "f4"),
        "up": np.array([[[0, 2]]], "f4"), "down": np.array([[[1], [-1]]], "f4")})
    inner = 3 / (1 + math.exp(-3)) * 2 * 5
    got = reference.reference(case, weights, np.array([[3, 5]], "f4"))
    np.testing.assert_allclose(got, [[inner, -inner]], rtol=1e-14)


def test_reference_of_other_bodies():
    """By hand: gpt-oss's clamps and biases on interleaved in×out weights; relu² without a gate."""
    case = CASES["G"]._replace(experts=1, top_k=1, hidden=1, inner=1)
    both, down = [2.0, 3.0], 5.0
    weights = data.Weights("f32", {
        "router": np.zeros((1, 1), "f4"), "router_bias": np.ones(1, "f4"),
        "gate_up": np.array([[both]], "f4"), "gate_up_bias": np.array([[0.5, -20]], "f4"),
        "down": np.array([[[down]]], "f4"), "down_bias": np.array([[0.25]], "f4")})
    for x in (1.0, 4.0):  # the gate is 2.5, or 8.5 and cut at 7; up is -17 or -8, cut at -7
        gate = min(2 * x + 0.5, 7)
        inner = (-7 + 1) * gate / (1 + math.exp(-1.702 * gate))
        got = reference.reference(case, weights, np.array([[x]], "f4"))
        np.testing.assert_allclose(got, [[inner * down + 0.25]], rtol=1e-14)
    case = CASES["N"]._replace(experts=2, top_k=1, hidden=1, inner=1)
    weights = data.Weights("f32", {
        "router": np.array([[1], [2]], "f4"), "bias": np.array([1, 0], "f4"),
        "up": np.array([[[3]], [[-3]]], "f4"), "down": np.array([[[7]], [[7]]], "f4")})
    got = reference.reference(case, weights, np.array([[0.5], [-9]], "f4"))
    # The bias makes both tokens choose expert 0; the scale is all that is left of the weight.
    np.testing.assert_allclose(got, [[2.5 * 7 * 1.5 ** 2], [0]], rtol=1e-14)


def test_error_counts_nan():
    assert reference.compare(np.array([[np.nan, 0]]), np.ones((1, 2))) == (math.inf, math.inf)
    assert reference.compare(np.array([[4.0, 1]]), np.array([[2.0, 1]])) == (1, 2)


@pytest.mark.parametrize("name", ["A", "G", "N"])
@pytest.mark.parametrize("kind", ["even", *skew.SKEWS])
def test_prescribed_routing(name, kind):
    """The router of each case chooses what was prescribed, and all of the experts are met."""
    case = CASES[name]._replace(**SMALL)
    ids = skew.choose(kind, 48, 6, case.top_k)
    assert sorted(set(ids.flat)) == list(range(6))
    assert all(len(set(row)) == case.top_k for row in ids)
    x = skew.steer(case, data.make_weights(case, "bf16"), ids)
    assert x.shape == (48, case.hidden) and (x == data.representable(x)).all()


def test_skews_are_skewed():
    """Of equally many choices, one expert gets a row of every token, and Zipf's first the most."""
    rows = {kind: np.bincount(skew.choose(kind, 256, 64, 8).flat, minlength=64)
            for kind in ("even", "one", "zipf")}
    assert all(counts.sum() == 256 * 8 and counts.min() >= 1 for counts in rows.values())
    assert rows["one"][0] == 256 and rows["one"][1:].max() < 64 > rows["even"].max()
    assert rows["zipf"][0] > 4 * rows["zipf"][32:].mean()
    with pytest.raises(ValueError, match="1 tokens with 2 experts each cannot meet 4"):
        skew.choose("even", 1, 4, 2)


def test_interleaving():
    """A B P Q A B P Q, on inputs in turn, after one warm round."""
    order = []
    times = interleave([lambda x: order.append(("a", x)), lambda x: order.append(("b", x))],
                       [(1, 2), (3, 4)], 10.0, rounds=3,
                       probes=[lambda: order.append("p") or 5.0, lambda: order.append("q") or 7.0])
    round_ = [("a", 1), ("b", 2), "p", "q", ("a", 3), ("b", 4), "p", "q"]
    warm = [("a", 1), ("b", 2), ("a", 3), ("b", 4)]
    assert order == warm + round_ + round_[:4]
    assert [len(each) for each in times.seconds] == [3, 3]
    assert times.probed == ([5.0] * 3, [7.0] * 3)


def test_jobs_of_a_suite(monkeypatch):
    """A process for each case, type and environment; what nobody can run is told."""
    monkeypatch.setattr(run, "interpreter", lambda name: Path(peers.PEERS[name].environment))
    jobs, refused = run.make_jobs(run.parse_arguments(["--suite=bar", "--json=x"]))
    by_key = {(job["case"], job["dtype"], str(python)): job for python, job in jobs}
    assert len(by_key) == len(jobs)
    assert set(by_key["A", "bf16", "vllm"]["peers"]) == {"vllm-experts", "vllm-fused"}
    assert set(by_key["A", "f32", "vllm"]["peers"]) == {"vllm-fused"}
    assert by_key["A", "bf16", "zentorch"]["peers"]["zentorch"][0] == (1, 2)
    assert ("zipf", 1024, 2) in by_key["A", "bf16", sys.executable]["skews"]
    assert by_key["tiny", "bf16", sys.executable]["alone"] == [(1, 1), (1, 2)]
    assert ("A", "f32", "vllm-experts") in {(e["case"], e["dtype"], e["peer"]) for e in refused}
    assert not any(entry["failed"] for entry in refused)


def _point(case: str, tokens: int, ratio: float, **fields) -> dict:
    """A point of a report, as far as the goals read it."""
    return {"case": case, "dtype": "bf16", "tokens": tokens, "threads": 2, "peer": "zentorch",
            "ratio": ratio, "verdict": "won" if ratio > 1 else "lost", "ours_share": 0.9,
            "ours_seconds": 1e-3, "compile_seconds": 1.0, "routing_seconds": 15e-6,
            "memory": memory(1000)} | fields


def memory(more: int) -> dict:
    """Of a call that takes `more` bytes beside its workspace and its result."""
    return {"workspace": 5000, "result": 300, "grown": 5300 + more, "allowed_beyond": 1 << 20}


def test_goals():
    """Each line is met by a report that reaches it, and not by one that does not."""
    def told(points: list[dict], skews: list[dict]) -> dict[tuple[str, str], bool | None]:
        alone = [point for point in points if point["case"] == "tiny"]
        found = goals.lines({"points": points, "alone": alone, "skews": skews})
        return {(line.where, line.bar.split(" ")[0]): line.met for line in found}
    good = [_point("A", 1, 1.3, ours_share=0.93), _point("A", 1, 0.98, peer="x", verdict="tied"),
            _point("B", 256, 1.5), _point("B", 256, 0.5, threads=1), _point("G", 64, 2.1),
            _point("tiny", 1, 3, ours_seconds=20e-6)]
    lines = told(good, [_point("A", 64, 1.2, skew="one")])
    assert lines["A–D", "faster"] is True and lines["A–D", "geometric"] is True
    assert lines["G, N", "≥"] is True and lines["tiny, T = 1", "≤"] is True
    assert lines["T = 1, 2, 4, 8 on A, B, C", "≥"] is False  # 93 % and 90 %: the median is less
    assert lines["T ≥ 256 on A, B, C, D", "≥"] is True and lines["T = 32, 64 on G, N", "≥"] is True
    assert lines["T = 16 on A, B, C", "≥"] is None
    assert lines["peak memory at run", "weights"] is True
    assert lines["routing on A, T = 1", "≤"] is True and lines["routing on A, T ≥ 256", "≤"] is None
    assert lines["skewed routing", "≤"] is True
    bad = [_point("A", 64, 0.98, verdict="tied"), _point("A", 1, 1, routing_seconds=21e-6),
           _point("A", 256, 1, routing_seconds=31e-6, memory=memory(2 << 20)),
           _point("G", 1, 1.9), _point("N", 4, 3.0),
           _point("tiny", 1, 3, ours_seconds=26e-6, compile_seconds=1.6)]
    lines = told(bad, [_point("A", 64, 1.31, skew="one")])
    assert lines["A–D", "faster"] is False and lines["A–D", "geometric"] is False
    assert lines["G, N", "≥"] is False and lines["tiny, T = 1", "≤"] is False
    assert lines["compile, layer to `.so`, one ISA", "≤"] is False
    assert lines["skewed routing", "≤"] is False
    assert lines["peak memory at run", "weights"] is False
    assert lines["routing on A, T = 1", "≤"] is False
    assert lines["routing on A, T ≥ 256", "≤"] is False


def test_best_peer_is_the_one_that_is_hardest_to_beat():
    points = [_point("A", 1, 1.3), _point("A", 1, 0.9, peer="x"), _point("A", 4, 2.0)]
    bests = goals.best_peers(points)
    assert [(best.point["peer"], best.verdict) for best in bests] == [("x", "lost"),
                                                                      ("zentorch", "won")]
    [row] = goals.tally(bests)
    assert row == "| A | bf16 | 1 | 0 | 1 | 0 | 1.34 | 0.90 at T=1, x |"


def _run(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess, Path]:
    out = folder / "out.json"
    command = [sys.executable, BENCHMARKS / "run.py", "--pairs=2", f"--json={out}", *options]
    return subprocess.run(command, capture_output=True, text=True), out


def test_harness_on_a_tiny_case(tmp_path):
    """Two pairs against torch: checked with float64, fields there, table and picture written."""
    done, out = _run(tmp_path, "--case=tiny", "--type=bf16", "--tokens=1,64", "--threads=1",
                     "--peers=torch-eager", "--skews=one", "--alone",
                     f"--picture={tmp_path / 'roof.png'}")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["cpu"] and report["date"] and report["commit"] and report["not_run"] == []
    assert [(p["case"], p["dtype"], p["tokens"], p["threads"], p["peer"], p["pairs"])
            for p in report["points"]] == [("tiny", "bf16", t, 1, "torch-eager", 2)
                                           for t in (1, 64)]
    for point in report["points"]:
        for who in ("ours", "peer"):
            error = point[f"{who}_error"]
            assert 0 < error["relative"] < 3e-2 and 0 < error["absolute"] < 1e-2
        assert point["ours_seconds"] > 0 and point["peer_seconds"] > 0
        assert point["verdict"] == "open" and point["ratio_interval"] is None
        assert point["ours_share"] == pytest.approx(point["bound_seconds"] / point["ours_seconds"])
        assert "strict" in point["ours_rounding"] and point["roof"]["threads"] == 1
        assert point["compile_seconds"] > 0.01
        # Its weights stay in the cache: arithmetic is what bounds it, and nothing was probed.
        roof, before = point["roof"], point["roof_before"]
        assert point["bound_seconds"] == point["flops"] / before["flops"]["bf16"]
        assert point["bound_before_seconds"] == point["bound_seconds"] and roof == before
        assert (point["flops_meanwhile"], point["read_meanwhile"]) == (0, 0)
    assert [(p["tokens"], "peer" in p) for p in report["alone"]] == [(1, False), (64, False)]
    assert all(p["ours_seconds"] > 0 < p["ours_share"] for p in report["alone"])
    for point in report["points"] + report["alone"]:
        used = point["memory"]
        assert used["result"] == point["tokens"] * 256 * 2 and used["workspace"] > used["result"]
        assert reporting.beyond(point) <= used["allowed_beyond"]
        assert point["routing_seconds"] > 0
        # Sixty-four tokens make two tasks of the gate, eight experts one of the logits.
        assert point["regions"] == (2 if point["tokens"] == 1 else 3)
    assert all(point["peer_prepared_bytes"] > 0 for point in report["points"])
    [skewed] = report["skews"]
    assert (skewed["skew"], skewed["tokens"], skewed["experts_met"]) == ("one", 64, 8)
    assert "Roof of" not in done.stdout
    assert done.stdout.endswith(reporting.markdown(report))
    for point in report["points"]:  # as if it had been probed
        point["flops_meanwhile"] = 2
    assert re.search(r"Roof of arithmetic, bf16, 1 threads: \d+ GFLOP/s before the process, \d+.* "
                     r"between the calls of 2 comparisons\n", reporting.markdown(report))
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


def test_bad_command_lines(tmp_path, monkeypatch):
    """Each says what is wrong; nothing is written."""
    monkeypatch.setenv("MOE_PEERS", str(tmp_path))
    for options, message in (
            (["--case=Z"], "'Z' is none of A, B"),
            (["--case=A", "--tokens=0"], "'0' is not a list"),
            ([], "--suite or --case"), (["--case=A", "--skews=two"], "'two' is none of one, zipf"),
            (["--case=A", "--peers=zentorch"], "benchmarks/setup-peer zentorch")):
        done, out = _run(tmp_path, *options)
        assert done.returncode and message in done.stderr and not out.exists()


def test_left_out(tmp_path):
    """Who cannot run a case is told in the report, and that is no failure."""
    done, out = _run(tmp_path, "--case=N", "--peers=torch-grouped")
    assert done.returncode == 0, done.stderr
    [entry] = json.loads(out.read_text())["not_run"]
    assert entry["case"] == "N" and "no experts of the kind relu2" in entry["reason"]
    assert "Left out: N bf16 torch-grouped: it has no" in done.stdout


SLICE = """
import sys
import data, peers, reference
from cases import CASES
peer = peers.load(sys.argv[1])
import ours
for name in sys.argv[2].split(","):
    case = CASES[name]._replace(hidden=64, inner=96, experts=6, top_k=3)
    for dtype in case.types:
        if peers.refusal(sys.argv[1], case, dtype):
            continue
        weights = data.make_weights(case, dtype)
        x = reference.decided_tokens(case, weights)
        expected = reference.reference(case, weights, x)
        for program in (ours.Peer(), peer):
            program.prepare(case, weights)
            program.set_threads(1)
            y = program.result(program.run(program.input(x)))
            error = reference.compare(y, expected).relative
            assert error < reference.TOLERANCE[dtype], (name, dtype, program, error)
            print(name, dtype, "right")
"""


@pytest.mark.parametrize("peer", [name for name in peers.PEERS])
def test_peers_are_right(peer):
    """Each that is installed, and ours, on small layers of all kinds, against float64."""
    try:
        python = peers.interpreter(peer)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    path = f"{BENCHMARKS}:{BENCHMARKS.parent / 'python'}"
    cases = "A" if peer == "torch-compiled" else "A,B,G,N"  # it takes a minute for all
    done = subprocess.run([python, "-c", SLICE, peer, cases], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("right") >= 2
