"""Ours against each peer on the GPU, one number of tokens at a time."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

import data
import stats
from gpu import clock, points, variants
from gpu.check import Failure
from gpu.device import Buffer, Torch
from gpu.layer import Call, Layer
from reference import TOLERANCE, compare, decided_tokens, reference

GRAPHED = 512  # tokens up to which calls are timed as CUDA graphs
MOST_BATCHES = 16


class Ours:
    """The compiled layer on tensors of torch, with the interface of torch_peers.py."""

    can_graph = is_layer = True

    def __init__(self, gpu: Torch, path: Path, roles: tuple[str, ...], dtype: str,
                 weights: dict[str, Buffer]) -> None:
        self.gpu, self.layer, self.dtype = gpu, Layer(path), dtype
        self.weights = [weights[role] for role in roles]

    def bind(self, x):
        """x: T×H; the result is the same tensor each time."""
        y = self.gpu.allocate(tuple(x.shape), self.dtype)
        call = Call(self.layer, self.gpu, [Buffer(x.data_ptr(), tuple(x.shape), self.dtype, x),
                                           *self.weights, y])

        def run():
            call(self.gpu.stream())
            return y.owner
        return run


class Program:
    """A layer or peer that is bound to an x: `run` is what is timed; `y` has its result then."""

    def __init__(self, name: str, layer, x, gpu: Torch) -> None:
        self.name, self.is_layer = name, layer.is_layer
        self.call = layer.bind(x)
        self.is_graph = layer.can_graph and (len(x) <= GRAPHED or not layer.is_layer)
        self.gpu, self.run, self.y = gpu, self._run, None

    def _run(self) -> None:
        self.y = self.call()

    def record(self) -> None:
        """From now on as a CUDA graph, where that is wanted."""
        if self.is_graph:
            self.run, self.y = clock.capture(self.gpu.torch, self.call)


class Bench:
    """A case and type: its weights on the GPU once, for ours and for the peers."""

    def __init__(self, job: dict, gpu: Torch) -> None:
        from gpu import torch_peers
        self.job, self.gpu = job, gpu
        self.roof = clock.Roof(**job["roof"])
        self.bundle = variants.read_bundle(Path(job["bundle"]))
        any_tokens = points.find_artifact(self.bundle, job["case"], job["dtype"], 0)
        first = any_tokens or next(a for a in self.bundle.artifacts
                                   if a.variant.case.name == job["case"])
        self.case, self.dtype = first.variant.case, job["dtype"]
        self.weights = data.make_weights(self.case, self.dtype)
        self.checked = decided_tokens(self.case, self.weights)
        self.expected = reference(self.case, self.weights, self.checked)
        self.uploaded = {role: gpu.upload(array) for role, array in self.weights.tensors.items()}
        self.clock = clock.Clock(gpu.torch, gpu.cache_bytes)
        gpu.torch.backends.cuda.matmul.allow_tf32 = False
        tensors = {role: buffer.owner for role, buffer in self.uploaded.items()}
        self.layers: dict[str, object] = {}
        self.refused: dict[str, str] = {}
        for name in job["peers"]:
            why, peer = self._find_peer(name)
            if why:
                self.refused[name] = why
            else:
                self.layers[name] = peer(self.case, self.weights, tensors)
        self.gemms = torch_peers.CublasGemms(self.case, self.weights, tensors)

    def _find_peer(self, name: str):
        """Why it cannot run, or its class."""
        from gpu import torch_peers
        if name == "triton":
            try:
                from gpu import triton_peer
            except ImportError as error:
                return f"there is no Triton in this Python: {error}", None
            peer = triton_peer.TritonMoE
        else:
            peer = {"grouped_mm": torch_peers.GroupedMM,
                    "cublas-loop": torch_peers.CublasLoop}[name]
        return peer.refusal(self.case, self.dtype), peer

    def inputs(self, tokens: int) -> tuple[list, float, int]:
        """Batches on the GPU, the experts that one meets, and the rows of the fullest expert."""
        batches, met = data.make_inputs(self.case, self.weights, tokens, self.gpu.cache_bytes,
                                        self.checked, MOST_BATCHES if tokens <= GRAPHED else 2)
        ids = data.route(self.case, self.weights, batches[0], np.float32).ids
        stored = [data.bf16_bits(x) if self.dtype == "bf16" else x for x in batches]
        return ([self.gpu.upload(x).owner for x in stored], statistics.mean(met),
                int(np.bincount(ids.ravel()).max()))

    def check(self, program: Program, tokens: int) -> float:
        """The error on the first tokens of the first batch; one that is wrong is not timed."""
        program.run()
        y = program.y.double().cpu().numpy()
        expected = self.expected[:tokens]
        error = compare(y[:len(expected)], expected).relative
        if error > TOLERANCE[self.dtype]:
            raise Failure(f"{program.name} is wrong: its error is {error:.3g}, "
                          f"{TOLERANCE[self.dtype]:.3g} is allowed")
        return error

    def measure(self, tokens: int) -> dict:
        """A point: ours against every peer, each pair of programs side by side."""
        torch, case = self.gpu.torch, self.case
        artifact = points.find_artifact(self.bundle, case.name, self.dtype, tokens)
        batches, met, fullest = self.inputs(tokens)
        # Of fixed address; the rounds' batches are copied there.
        x = self.gpu.allocate(tuple(batches[0].shape), self.dtype).owner
        x.copy_(batches[0])
        mine = Ours(self.gpu, self.bundle.path(artifact), artifact.roles, self.dtype,
                    self.uploaded)
        touched = case.touched_bytes(self.dtype, tokens, met)
        flops = case.flops(tokens)
        bound, by = self.roof.bound(flops, touched, self.dtype)
        point = {"case": case.name, "dtype": self.dtype, "tokens": tokens,
                 "artifact": artifact.variant.name, "kernels": list(artifact.kernels),
                 "flops": flops, "gemm_flops": flops - 2 * tokens * case.hidden * case.experts,
                 "touched_bytes": round(touched), "experts_met": met, "fullest_expert": fullest,
                 "bound_seconds": bound, "bound_by": by, "programs": {}, "refused": self.refused,
                 "failed_peers": {}}
        ours = Program("ours", mine, x, self.gpu)
        ours.record()
        point["ours_error"] = self.check(ours, tokens)
        others = self.layers | ({points.GEMMS: self.gemms} if tokens > GRAPHED else {})
        for name, layer in others.items():
            try:
                point["programs"][name] = self._compare(ours, name, layer, x, batches)
            except Exception as error:  # a peer's trouble, whatever it is, is not ours
                if "CUDA error" in str(error):
                    raise  # nothing can be run in this process any more
                point["failed_peers"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
            x.copy_(batches[0])
            torch.cuda.empty_cache()
        # With nobody beside it, ours is timed alone.
        seconds = statistics.median([entry["ours_seconds"] for entry in point["programs"].values()]
                                    or self._time([ours], x, batches)[0])
        return point | {"ours_seconds": seconds, "ours_is_graph": ours.is_graph,
                        "ours_share": bound / seconds}

    def _time(self, programs: list[Program], x, batches: list) -> list[list[float]]:
        def prepare(at: int) -> None:
            # The numbers of rows of the bare products are those of the first batch.
            fixed = not all(program.is_layer for program in programs)
            x.copy_(batches[0 if fixed else at % len(batches)])
        return clock.interleave(self.clock.time, [program.run for program in programs], prepare,
                                self.job["seconds"])

    def _compare(self, ours: Program, name: str, layer, x, batches: list) -> dict:
        """Ours and one peer, A B A B …."""
        peer = Program(name, layer, x, self.gpu)
        if hasattr(peer.call, "tune"):
            peer.call.tune(self.clock.time)
        peer.record()
        error = self.check(peer, len(x)) if peer.is_layer else None
        times = self._time([ours, peer], x, batches)
        tiles = [str(tuple(getattr(peer.call, part))) for part in ("first", "second")
                 if hasattr(peer.call, part)]
        return self._summary(times) | {"error": error, "is_graph": peer.is_graph, "tiles": tiles}

    @staticmethod
    def _summary(times: list[list[float]]) -> dict:
        ratio = stats.paired_ratio(*times)
        finite = all(abs(end) != float("inf") for end in ratio)
        return {"pairs": len(times[0]), "ours_seconds": statistics.median(times[0]),
                "seconds": statistics.median(times[1]), "least_seconds": min(times[1]),
                "ratio": ratio.median,
                "ratio_interval": [ratio.low, ratio.high] if finite else None,
                "verdict": stats.verdict(ratio)}
