"""One process: ours against some peers, one at a time, on one case and type.

    python worker.py JOB.json OUT.json

run.py starts it with the Python of the peers' environment; a job is what `run.py` writes there.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import data
import peers
import skew as skewing
import stats
from cases import CASES, Case
from machine import ForeignLoad, Roof
from reference import TOLERANCE, Error, compare, decided_tokens, reference
from timing import ReadProbe, Times, interleave

PATIENCE = 20.0  # seconds that a call may take; more tokens are not tried


class Bench:
    """A case and type with its weights, our side of it, and what the right results are."""

    def __init__(self, job: dict) -> None:
        import ours as our_side  # after the peers: it joins the OpenMP of a torch that is there
        self.job, self.case, self.dtype = job, CASES[job["case"]], job["dtype"]
        self.roofs = {roof["threads"]: Roof(**roof) for roof in job["roofs"]}
        self.weights, self.ours = data.make_weights(self.case, self.dtype), our_side.Peer()
        self.ours.prepare(self.case, self.weights)
        self.cache_bytes = next(iter(self.roofs.values())).cache
        self.probe = ReadProbe(self.ours.runtime, self.cache_bytes)
        self.checked = decided_tokens(self.case, self.weights)
        self.expected = reference(self.case, self.weights, self.checked)
        self.pace = {}  # of a program: seconds a token at its slowest

    def batches(self, tokens: int) -> tuple[list, list[int]]:
        """Inputs, the first of which begins with the tokens that are checked."""
        return data.make_inputs(self.case, self.weights, tokens, self.cache_bytes, self.checked)

    def check(self, program, who: str, x) -> Error:
        """The error on the first tokens of a batch; a program that is wrong is not timed."""
        tokens = len(x)
        if tokens * self.pace.get(who, 0) > PATIENCE:
            raise NotImplementedError(f"{who} would take {tokens * self.pace[who]:.0f} s a call")
        ready = program.input(x)
        start = time.perf_counter()
        y = program.run(ready)
        if time.perf_counter() - start > 1:  # or else there is no need to know
            start = time.perf_counter()  # again: the first call may compile
            y = program.run(ready)
            self.pace[who] = (time.perf_counter() - start) / tokens
        expected = self.expected[:tokens]
        error, allowed = compare(program.result(y)[:len(expected)], expected), TOLERANCE[self.dtype]
        if error.relative > allowed:
            raise ValueError(f"{who} is wrong at {tokens} tokens: its error is "
                             f"{error.relative:.3g}, {allowed:.3g} is allowed")
        return error

    def is_cached(self) -> bool:
        """Whether all weights stay in the cache: only arithmetic bounds such a layer."""
        return self.case.experts * self.case.expert_bytes(self.dtype) < self.cache_bytes

    def probe_for(self, flops: int, touched: float, roof: Roof) -> ReadProbe | None:
        """The probe, where memory may be what bounds a point."""
        if self.is_cached():
            return None
        return self.probe if touched / roof.read > 0.5 * flops / roof.flops[self.dtype] else None

    def measure(self, name: str, peer, tokens: int, threads: int) -> dict:
        """A point: ours against a peer."""
        roof, case = self.roofs[threads], self.case
        for program in (self.ours, peer):
            program.set_threads(threads)
        batches, met = self.batches(tokens)
        errors = {who: self.check(program, who, batches[0])
                  for who, program in (("ours", self.ours), (name, peer))}
        touched = case.touched_bytes(self.dtype, tokens, statistics.mean(met))
        flops, job = case.flops(tokens), self.job
        probe = self.probe_for(flops, touched, roof)
        inputs = [(self.ours.input(batch), peer.input(batch)) for batch in batches]
        with ForeignLoad() as load:
            times = interleave(self.ours.run, peer.run, inputs, job["seconds"], job["pairs"], probe)
        return {"case": case.name, "dtype": self.dtype, "tokens": tokens, "threads": threads,
                "peer": name, "ours_rounding": self.ours.rounding, "peer_rounding": peer.rounding,
                "foreign_cores": load.cores, "compile_seconds": self.ours.compile_seconds,
                "ours_error": errors["ours"]._asdict(), "peer_error": errors[name]._asdict(),
                "batches": len(met), "round_bytes": sum(met) * case.expert_bytes(self.dtype),
                "touched_bytes": round(touched),
                **describe(flops, 0 if self.is_cached() else touched, self.dtype, roof, times)}

    def measure_skew(self, skew: str, tokens: int, threads: int) -> dict:
        """Ours on a skewed routing against ours on an even one of the same experts."""
        ours, case, job = self.ours, self.case, self.job
        ours.set_threads(threads)
        met = skewing.number_met(case, tokens)
        pairs = []
        for seed in range(4):
            ids = [skewing.choose(kind, tokens, met, case.top_k, seed) for kind in ("even", skew)]
            pairs.append(tuple(ours.input(skewing.steer(case, self.weights, each, seed))
                               for each in ids))
        times = interleave(ours.run, ours.run, pairs, job["seconds"], job["pairs"])
        ratio = stats.paired_ratio(times.first, times.second)
        return {"case": case.name, "dtype": self.dtype, "tokens": tokens, "threads": threads,
                "skew": skew, "experts_met": met, "pairs": len(times.first),
                "even_seconds": statistics.median(times.first),
                "skewed_seconds": statistics.median(times.second), **ratio_fields(ratio)}


def ratio_fields(ratio: stats.Ratio) -> dict:
    """JSON has no infinity: an interval without ends is null."""
    finite = all(abs(end) != float("inf") for end in ratio)
    return {"ratio": ratio.median, "ratio_interval": [ratio.low, ratio.high] if finite else None}


def describe(flops: int, touched: float, dtype: str, roof: Roof, times: Times) -> dict:
    """The figures of a point. The speed of memory is the median of what was measured meanwhile."""
    if times.read:
        roof = roof._replace(read=statistics.median(times.read))
    bound, by = roof.bound(flops, touched, dtype)
    ratio = stats.paired_ratio(times.first, times.second)
    ours, peer = statistics.median(times.first), statistics.median(times.second)
    return {"pairs": len(times.first), "ours_seconds": ours, "peer_seconds": peer,
            "ours_min_seconds": min(times.first), "peer_min_seconds": min(times.second),
            **ratio_fields(ratio), "verdict": stats.verdict(ratio), "flops": flops,
            "bound_seconds": bound, "bound_by": by,
            "ours_share": bound / ours, "peer_share": bound / peer,
            "read_meanwhile": len(times.read), "roof": roof._asdict()}


def say(point: dict) -> None:
    """A line of progress."""
    print("{case} {dtype} T={tokens} {threads} threads: {ours:.3f} ms, {peer} {theirs:.3f} ms, "
          "ratio {ratio:.3f} {verdict}".format(ours=point["ours_seconds"] * 1e3,
                                               theirs=point["peer_seconds"] * 1e3, **point),
          flush=True)


def run_job(job: dict) -> dict:
    """{"points": …, "skews": …, "not_run": …}; what fails is told there, and the rest goes on."""
    result: dict[str, list] = {"points": [], "skews": [], "not_run": []}

    def failed(who: str, error: Exception, points: list | None = None) -> None:
        result["not_run"].append({
            "case": job["case"], "dtype": job["dtype"], "peer": who, "reason": str(error),
            "points": points or [], "failed": not isinstance(error, NotImplementedError)})
    expected = (NotImplementedError, ImportError, RuntimeError, ValueError, OSError)
    try:
        loaded = {name: peers.load(name) for name in job["peers"]}
        bench = Bench(job)
    except expected as error:
        failed(", ".join(job["peers"]) or "ours", error)
        return result
    for skew, tokens, threads in job["skews"]:
        try:
            result["skews"].append(bench.measure_skew(skew, tokens, threads))
        except expected as error:
            failed(f"ours, {skew}", error, [[tokens, threads]])
    while loaded:
        name, peer = loaded.popitem()  # so that its packed weights go before the next one's come
        try:
            peer.prepare(bench.case, bench.weights)
        except expected as error:
            failed(name, error)
            continue
        for tokens, threads in job["peers"][name]:
            try:
                result["points"].append(bench.measure(name, peer, tokens, threads))
                say(result["points"][-1])
            except expected as error:
                failed(name, error, [[tokens, threads]])
        del peer
    return result


if __name__ == "__main__":
    outcome = run_job(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(outcome))
