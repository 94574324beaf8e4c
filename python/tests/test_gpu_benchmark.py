"""benchmarks/gpu without a GPU: what is carried, checks by the stand-in driver, reports, peers.

Nothing is timed here. Reports are made of numbers that are invented, and only seen by the test.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import data  # noqa: E402
import reference  # noqa: E402
from cases import CASES  # noqa: E402
from gpu import bars, build, clock, points, report, variants  # noqa: E402
from gpu.variants import FAT, OLDER, Variant  # noqa: E402
from moe import emulation  # noqa: E402

SMALL = CASES["A"]._replace(name="small", hidden=64, inner=64, experts=4, top_k=2)
ANY, OLD, EIGHT = (Variant(SMALL, "bf16", tokens, chips)
                   for tokens, chips in ((0, FAT), (0, OLDER), (8, FAT)))
F32 = Variant(SMALL, "f32", 0, OLDER)
ALL = (ANY, OLD, EIGHT, F32)
BUILD = emulation.build_folder()
DRIVER = BUILD / "lib/moe_emulating_driver.so"
needs_driver = pytest.mark.skipif(not DRIVER.exists(), reason=f"{DRIVER} is not built")


@pytest.fixture(scope="module")
def carried(tmp_path_factory) -> Path:
    """The unpacked archive of the small layers."""
    folder = tmp_path_factory.mktemp("carried")
    build.compile_all(ALL, folder / "made")
    build.pack(folder / "made", folder / "moe-gpu.tar.gz")
    subprocess.run(["tar", "xf", "moe-gpu.tar.gz"], cwd=folder, check=True)
    return folder / "moe-gpu"


def kernels_of(variant: Variant, folder: Path) -> dict[str, str]:
    """The environment in which the stand-in driver runs a variant on its last chip."""
    chip, source, out = variant.chips[-1], folder / "layer.mlir", folder / "kernels.so"
    source.write_text(build.layer_text(variant))
    subprocess.run([sys.executable, ROOT / "test/Target/NVPTX/Inputs/emulate_kernels.py",
                    BUILD / "bin/moe-opt", source, chip, out], check=True)
    return {"MOE_CUDA_DRIVER": str(DRIVER), "MOE_EMULATED_KERNELS": str(out),
            "MOE_EMULATED_CHIP": chip[3:5]}


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    """run.py of what was carried, with nothing of the checkout in reach."""
    clean = {key: value for key, value in os.environ.items()
             if not key.startswith(("MOE_", "PYTHON"))}
    return subprocess.run([sys.executable, folder / "benchmarks/gpu/run.py", *options],
                          capture_output=True, text=True, cwd=folder.parent,
                          env=clean | {"CUDA_VISIBLE_DEVICES": "", **environment})


def test_variants():
    """Names differ, every case is there, and all fit the issue's regimes."""
    everything = variants.all_variants()
    names = [variant.name for variant in everything]
    assert len(set(names)) == len(names)
    assert {variant.case.name for variant in everything} == set(CASES)
    assert "B-bf16-T8-sm_80+sm_90a" in names and "B-bf16-any-sm_80" in names
    assert not any(name.startswith("C-f32") for name in names)


def test_a_layer_for_one_number_of_tokens():
    """It takes that number, and its weights are those of the other, in their order."""
    for name in ("A", "G", "N"):
        case = CASES[name]._replace(hidden=64, inner=64, experts=4, top_k=2)
        fixed = build.layer_text(Variant(case, "bf16", 8, FAT))
        assert "func.func @layer(%x: tensor<8x64xbf16>" in fixed
        assert build.roles_of(fixed) == build.roles_of(build.layer_text(
            Variant(case, "bf16", 0, FAT)))


def test_archive(carried, tmp_path):
    """What is in it, and that it is the same each time."""
    names = {str(path.relative_to(carried)) for path in carried.rglob("*") if path.is_file()}
    assert {"benchmarks/gpu/run.py", "benchmarks/data.py", "python/moe/artifact.py",
            "artifacts/manifest.json", f"artifacts/{ANY.name}.so", f"artifacts/{ANY.name}.h"
            } <= names
    assert "benchmarks/gpu/build.py" not in names  # it needs a compiler
    again = tmp_path / "again"
    build.compile_all(ALL, again)
    build.pack(again, tmp_path / "again.tar.gz")
    first = carried.parent / "moe-gpu.tar.gz"
    assert (tmp_path / "again.tar.gz").read_bytes() == first.read_bytes()
    bundle = variants.read_bundle(carried / "artifacts")
    found = {artifact.variant: artifact for artifact in bundle.artifacts}
    assert set(found) == set(ALL)
    assert sum("gpu_wgmma" in kernel for kernel in found[ANY].kernels) == 2
    assert not any("gpu_wgmma" in kernel for kernel in found[OLD].kernels)
    assert found[EIGHT].roles == ("router", "gate", "up", "down")


@needs_driver
@pytest.mark.parametrize("variant", ALL, ids=lambda variant: variant.name)
def test_checks(carried, tmp_path, variant):
    """Each generation of kernels, through the C interface, against float64."""
    out = tmp_path / "out.json"
    done = run(carried, "--check", "--memory=driver", f"--only={variant.name}", "--counts=0,1,9",
               "--distinct=4", "--repeats=2", f"--json={out}", **kernels_of(variant, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This was no GPU" in done.stdout and "1 of 1 right" in done.stdout
    found = json.loads(out.read_text())
    [entry] = found["checks"]
    assert entry["name"] == variant.name
    assert 0 < entry["error"] < reference.TOLERANCE[variant.dtype]
    assert entry["tokens"] == ([8] if variant is EIGHT else [0, 1, 9])
    assert found["is_emulated"] and found["chip"] == f"sm_{variant.chips[-1][3:5]}"


@needs_driver
def test_what_is_wrong_is_found(carried, tmp_path):
    """Another layer than the manifest says; a kernel that breaks; one that takes too long."""
    environment = kernels_of(OLD, tmp_path)
    options = ("--check", "--memory=driver", f"--only={OLD.name}", "--counts=9", "--distinct=4")
    wrong = tmp_path / "wrong"
    shutil.copytree(carried, wrong)
    manifest = wrong / "artifacts/manifest.json"
    text = manifest.read_text()
    assert '"renormalize": false' in text
    manifest.write_text(text.replace('"renormalize": false', '"renormalize": true'))
    done = run(wrong, *options, **environment)
    assert done.returncode == 1 and "T = 9, mixed tokens: the error is" in done.stdout

    broken = {**environment, "MOE_EMULATED_KERNELS": str(tmp_path / "none.so")}
    done = run(carried, "--check", "--memory=driver", "--only=small-*", "--counts=9", **broken)
    assert done.returncode == 1 and "0 of 4 right" in done.stdout
    assert done.stdout.count("FAILED: DeviceError: status 10") == 4

    done = run(carried, *options, "--limit=0.001", **environment)
    assert done.returncode == 1 and "FAILED: the process ended with status 1" in done.stdout


def test_where_there_is_no_gpu(carried):
    """Every mode says so, and fails."""
    for options, message in (((), "torch finds no GPU"),
                             (("--check", "--memory=driver"),
                              "the CUDA driver 'no-driver.so' cannot be opened")):
        done = run(carried, *options, MOE_CUDA_DRIVER="no-driver.so")
        assert done.returncode == 1 and "no GPU can be used" in done.stderr
        assert message in done.stderr and not done.stdout


def test_bad_command_lines(carried, tmp_path):
    """Each says what is wrong."""
    for options, status, message in (
            (("--only=Z*",), 1, "no artifact has a name like 'Z*'"),
            (("--memory=driver",), 2, "times are taken with torch"),
            (("--check", "--time"), 2, "exclude each other"),
            (("--peers=x",), 2, "'x' is none of grouped_mm"),
            (("--counts=a",), 2, "'a' is not a list of numbers"),
            ((f"--artifacts={tmp_path}",), 1, "make it with benchmarks/gpu/build.py")):
        done = run(carried, *options)
        assert done.returncode == status and message in done.stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(carried, damaged)
    with open(damaged / f"artifacts/{ANY.name}.so", "ab") as file:
        file.write(b"x")
    assert "is not the file that manifest.json was written for" in run(damaged).stderr
    (damaged / f"artifacts/{ANY.name}.so").unlink()
    assert "carry all of the folder" in run(damaged).stderr
    done = subprocess.run([sys.executable, ROOT / "benchmarks/gpu/build.py", "--case=Z",
                           "-o", tmp_path / "x.tar.gz"], capture_output=True, text=True)
    assert done.returncode == 2 and "'Z' is none of" in done.stderr


def invented(case: str, tokens: int, ours: float, share: float, **peers: float) -> dict:
    """A point of a report, with the times of peers."""
    whole = CASES[case]
    return {"case": case, "dtype": "bf16", "tokens": tokens, "artifact": "x", "kernels": [],
            "flops": whole.flops(tokens), "touched_bytes": 10 ** 8,
            "gemm_flops": whole.flops(tokens) - 2 * tokens * whole.hidden * whole.experts,
            "bound_seconds": share * ours, "bound_by": "memory", "ours_seconds": ours,
            "ours_share": share, "ours_error": 1e-3, "ours_is_graph": True, "failed_peers": {},
            "refused": {"triton": "there is no Triton"},
            "programs": {name: {"pairs": 9, "seconds": seconds, "ours_seconds": ours,
                                "ratio": seconds / ours, "ratio_interval": None, "error": 1e-3}
                         for name, seconds in peers.items()}}


def invented_report(*entries: dict, gpu: str = "NVIDIA H100 (invented)") -> dict:
    """A report of a run that never was."""
    return {"format": 1, "date": "2000-01-01T00:00", "commit": "invented", "gpu": gpu,
            "chip": "sm_90", "multiprocessors": 132, "is_emulated": False,
            "software": {"torch": "0"}, "sanitized": [], "failed": [],
            "checks": [{"name": "a", "tokens": [1], "calls": 3, "error": 1e-3, "kernels": []},
                       {"name": "b", "failed": "T = 1: the error is 2\nmore"}],
            "roof": {"copy": 3e12, "read": 2.9e12,
                     "flops": {"bf16": 8e14, "f32": 5e13, "tf32": 3e14}},
            "points": list(entries)}


def test_bars():
    """Those of the issue, for the points that they are about."""
    def found(*arguments, **peers) -> dict:
        return {bar.what: bar.met for bar in bars.bars_of(invented(*arguments, **peers))}
    gemms = {points.GEMMS: 0.86}
    assert found("A", 8192, 1.0, 0.5, grouped_mm=1.2, triton=1.05, **gemms) == {
        "≥ 1.1× the best peer": False, "≥ 85% of cuBLAS": True}
    fast = CASES["B"].flops(8192) / 600e12
    assert found("B", 8192, fast, 0.5, triton=1.2 * fast) == {
        "≥ 1.1× the best peer": True, "≥ 85% of cuBLAS": None, "≥ 523 TFLOP/s": True}
    assert found("C", 8192, 1.0, 0.5)["≥ 600 TFLOP/s"] is False
    assert found("D", 64, 1.0, 0.86) == {"≥ 85% of the bound": True}
    assert found("Q", 4, 1.0, 0.44, triton=3.0) == {
        "≥ 3× the best peer": True, "≥ 45% of the bound": False}
    assert found("A", 4, 1.0, 0.1) == {}
    assert bars.bars_of(invented("B", 8, 1.0, 0.1) | {"dtype": "f32"}) == []


def test_report(tmp_path):
    """Table, bars beside each row, what failed, and the picture."""
    entries = (invented("B", 8, 2e-5, 0.5, grouped_mm=8e-5), invented("C", 8192, 0.01, 0.8))
    made = invented_report(*entries)
    text = report.markdown(made)
    assert text.startswith("NVIDIA H100 (invented) (sm_90, 132 multiprocessors), torch 0")
    assert "1 of 2 right, in 3 calls" in text and "* Failed: b: T = 1: the error is 2\n" in text
    assert "copies 3000 GB/s" in text and "800 TFLOP/s in bf16" in text
    row = next(line for line in text.splitlines() if line.startswith("| B | bf16 | 8 |"))
    assert "80.0: 4.00" in row and "≥ 3× the best peer: 4.00 (grouped_mm), met" in row
    assert "≥ 600 TFLOP/s: 577, **not met**" in text
    assert text.count("Left out: B bf16 triton: there is no Triton") == 1
    other = report.markdown(invented_report(*entries, gpu="Another"))
    assert "this is another GPU" in other and "met" not in other.replace("grouped_mm", "")
    report.picture(made, tmp_path / "roof.png")
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "made.json").write_text(json.dumps(made))
    done = subprocess.run([sys.executable, ROOT / "benchmarks/gpu/report.py",
                           tmp_path / "made.json"], capture_output=True, text=True)
    assert done.stdout == text, done.stderr


def test_artifact_of_a_point(carried):
    """Code for the very number of tokens, or else for any; always for both generations."""
    bundle = variants.read_bundle(carried / "artifacts")
    assert points.find_artifact(bundle, "small", "bf16", 8).variant == EIGHT
    assert points.find_artifact(bundle, "small", "bf16", 9).variant == ANY
    assert points.find_artifact(bundle, "small", "f32", 9) is None  # for the older alone
    line = points.Line("small", "bf16", (8, 9))
    assert points.available(line, bundle, "*-T8-*") == [8]


def test_interleaving():
    """A B A B …, on the next input in each round, after two rounds that do not count."""
    seen = []
    times = clock.interleave(lambda run: run(), [lambda: seen.append("a") or 1.0,
                                                 lambda: seen.append("b") or 2.0],
                             lambda at: seen.append(at), seconds=0.0)
    assert seen[:9] == [0, "a", "b", 1, "a", "b", 0, "a", "b"]
    assert set(times[0]) == {1.0} and len(times[0]) == len(times[1]) >= 1
    roof = clock.Roof(2.0, 4.0, {"bf16": 10.0, "f32": 2.0, "tf32": 9.0})
    assert roof.bound(5, 8, "bf16") == (2.0, "memory")
    assert roof.bound(50, 8, "bf16") == (5.0, "arithmetic")
    assert roof.bound(50, 8, "f32") == (50 / 3, "arithmetic")


def test_torch_peers_are_right():
    """On the CPU, on all kinds of experts, against float64."""
    from gpu import torch_peers
    from peers.torch_common import tensor
    for name in ("A", "B", "G", "N"):
        case = CASES[name]._replace(hidden=64, inner=96, experts=6, top_k=3)
        for dtype in case.types:
            weights = data.make_weights(case, dtype)
            x = reference.decided_tokens(case, weights)
            expected = reference.reference(case, weights, x)
            tensors = {role: tensor(array) for role, array in weights.tensors.items()}
            for peer in (torch_peers.GroupedMM, torch_peers.CublasLoop):
                if peer.refusal(case, dtype):
                    assert (peer, dtype) == (torch_peers.GroupedMM, "f32")
                    continue
                program = peer(case, weights, tensors)
                y = program.result(program.bind(program.input(x))())
                assert reference.compare(y, expected).relative < reference.TOLERANCE[dtype]


def test_memory_of_torch(monkeypatch):
    """What is uploaded comes back; poison is in every byte, also where there is none."""
    import fake_cuda
    from gpu.device import Torch
    fake_cuda.install(monkeypatch)
    gpu = Torch()
    assert (gpu.chip, gpu.multiprocessors, gpu.stream()) == (90, 4, 0x5EED)
    for array in (np.arange(12, dtype=np.uint16).reshape(3, 4), np.ones((3, 4), np.float32),
                  np.zeros((0, 4), np.uint16)):
        buffer = gpu.upload(array.copy())
        found = gpu.download(buffer)
        assert found.dtype == array.dtype and np.array_equal(found, array)
        assert buffer.shape == array.shape
        gpu.poison(buffer)
        assert np.all(gpu.download(buffer).view(np.uint8) == 255)
    workspace = gpu.allocate((100,), "i8")
    gpu.poison(workspace)
    assert workspace.address and workspace.shape == (100,)


TRITON = """
import sys
import data, reference
from cases import CASES
from gpu.triton_peer import TritonMoE
from peers.torch_common import tensor
for name in "AB":
    case = CASES[name]._replace(hidden=96, inner=80, experts=6, top_k=3)
    weights = data.make_weights(case, "f32")
    x = reference.decided_tokens(case, weights, 8)
    tensors = {role: tensor(array) for role, array in weights.tensors.items()}
    program = TritonMoE(case, weights, tensors)
    error = reference.compare(program.result(program.bind(program.input(x))()),
                              reference.reference(case, weights, x)).relative
    assert error < 1e-5, error
"""


def test_triton_peer_is_right():
    """In Triton's interpreter, which has no bf16."""
    pytest.importorskip("triton")
    path = f"{ROOT / 'benchmarks'}:{ROOT / 'python'}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run([sys.executable, "-c", TRITON], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr


@needs_driver
def test_measuring(carried, tmp_path, monkeypatch):
    """The harness on a GPU that is none, with a clock that counts: every program is checked, and
    its graph is what is timed."""
    import fake_cuda
    for key, value in kernels_of(EIGHT, tmp_path).items():
        monkeypatch.setenv(key, value)
    fake_cuda.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "triton", None)  # which has no such GPU
    from gpu import timing_bench
    roof = {"copy": 1e9, "read": 2e9, "flops": {"bf16": 1e12, "f32": 1e11, "tf32": 1e11}}
    bench = timing_bench.Bench({"bundle": str(carried / "artifacts"), "case": "small",
                                "dtype": "bf16", "peers": ["grouped_mm", "cublas-loop", "triton"],
                                "seconds": 0.0, "roof": roof}, fake_cuda.Memory())
    point = bench.measure(8)
    assert point["artifact"] == EIGHT.name and point["failed_peers"] == {}
    assert set(point["programs"]) == {"grouped_mm", "cublas-loop"}
    assert "there is no Triton" in point["refused"]["triton"]
    assert point["programs"]["grouped_mm"]["is_graph"]
    assert not point["programs"]["cublas-loop"]["is_graph"]
    assert 0 < point["ours_error"] < 3e-2 and fake_cuda.Graph.replays > 0
    assert all(entry["ratio"] == pytest.approx(1) for entry in point["programs"].values())
    monkeypatch.setattr(timing_bench, "GRAPHED", 4)  # as if 8 tokens were many
    assert points.GEMMS in bench.measure(8)["programs"]
    text = report.progress(point)
    assert "cublas-loop 1.0 µs (ratio 1.00)" in text
    bench.expected = bench.expected * 2
    with pytest.raises(ValueError, match="ours is wrong"):
        bench.measure(8)


def test_a_run_of_times(carried, tmp_path, monkeypatch, capsys):
    """From the command line to table and picture, with outcomes that are invented."""
    from gpu import run as runner
    machine = {"gpu": "NVIDIA H200 (invented)", "chip": "sm_90", "multiprocessors": 132,
               "is_emulated": False, "software": {"torch": "0"}}
    seen = []

    def run_items(job, prefix=()):
        seen.append(job)
        for item in job["items"]:
            if job["mode"] == "time" and item == "9":
                yield item, {"failed": "ValueError: ours is wrong"}
            else:
                yield item, {"found": {
                    "probe": machine, "roof": invented_report()["roof"],
                    "time": invented("B", 8, 2e-5, 0.5, grouped_mm=8e-5)}[job["mode"]]}
    monkeypatch.setattr(runner.jobs, "run_items", run_items)
    monkeypatch.setitem(points.SUITES, "short", (points.Line("small", "bf16", (8, 9)),
                                                 points.Line("B", "bf16", (8,))))
    out, table, roof = tmp_path / "out.json", tmp_path / "out.md", tmp_path / "roof.png"
    status = runner.main(["--time", "--suite=short", f"--artifacts={carried / 'artifacts'}",
                          f"--json={out}", f"--markdown={table}", f"--picture={roof}"])
    assert status == 1  # of the point that failed
    assert [job["mode"] for job in seen] == ["probe", "roof", "time"]  # there is no B
    found = json.loads(out.read_text())
    assert found["gpu"] == machine["gpu"] and len(found["points"]) == 1
    assert found["failed"] == [{"name": "small bf16 T=9", "failed": "ValueError: ours is wrong"}]
    told = capsys.readouterr().out
    assert "small bf16 T=9: FAILED: ValueError: ours is wrong" in told
    assert told.endswith(table.read_text()) and "4.00 (grouped_mm), met" in table.read_text()
    assert roof.read_bytes().startswith(b"\x89PNG")


SANITIZER = """#!/bin/sh
# Stands in for compute-sanitizer: runs the program, and finds something if it is racecheck.
tool=$2
shift 4
"$@" || exit
if [ $tool = racecheck ]; then echo "ERROR: Race reported"; exit 9; fi
"""


@needs_driver
def test_sanitizers(carried, tmp_path):
    """Each tool runs over each layer, and what one finds is a failure."""
    program = tmp_path / "compute-sanitizer"
    program.write_text(SANITIZER)
    program.chmod(0o755)
    environment = kernels_of(OLD, tmp_path)
    done = run(carried, "--sanitize", f"--only={OLD.name}", "--distinct=2", **environment,
               PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1, done.stderr
    assert "2 of 3 right" in done.stdout
    assert f"Failed: {OLD.name} under racecheck: the process ended with status 9" in done.stdout
    assert "Race reported" in done.stdout
