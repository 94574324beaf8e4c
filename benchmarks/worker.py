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
from memory import allowed_beyond, resident
from reference import TOLERANCE, Error, compare, decided_tokens, reference
from timing import PeakProbe, ReadProbe, interleave

PATIENCE = 10.0  # seconds that a call may take; more tokens are not tried
ROUTINGS = 15  # calls whose routing is timed


class Bench:
    """A case and type with its weights, our side of it, and what the right results are."""

    def __init__(self, job: dict) -> None:
        import ours as our_side  # after the peers: it joins the OpenMP of a torch that is there
        self.job, self.case, self.dtype = job, CASES[job["case"]], job["dtype"]
        self.roofs = {roof["threads"]: Roof(**roof) for roof in job["roofs"]}
        self.weights = data.make_weights(self.case, self.dtype)
        self.ours = our_side.Peer(job["rounding"], job["weights"])
        self.ours.prepare(self.case, self.weights)
        self.prepared = 0  # bytes that the peer's own weights took
        self.cache_bytes = next(iter(self.roofs.values())).cache
        self.probes = {"flops": PeakProbe(self.ours.runtime, self.dtype),
                       "read": ReadProbe(self.ours.runtime, self.cache_bytes)}
        self.checked = decided_tokens(self.case, self.weights)
        self.expected = reference(self.case, self.weights, self.checked)
        self.pace = {}  # of a program on so many threads: seconds a token at its slowest

    def batches(self, tokens: int) -> tuple[list, list[int]]:
        """Inputs, the first of which begins with the tokens that are checked."""
        return data.make_inputs(self.case, self.weights, tokens, self.cache_bytes, self.checked)

    def check(self, program, who: str, x, threads: int) -> Error:
        """The error on the first tokens of a batch; a program that is wrong is not timed."""
        tokens, pace = len(x), self.pace.get((who, threads), 0)
        if tokens * pace > PATIENCE:
            raise NotImplementedError(f"{who} would take {tokens * pace:.0f} s a call")
        ready = program.input(x)
        start = time.perf_counter()
        y = program.run(ready)
        if time.perf_counter() - start > 1:  # or else there is no need to know
            start = time.perf_counter()  # again: the first call may compile
            y = program.run(ready)
            self.pace[who, threads] = (time.perf_counter() - start) / tokens
        expected = self.expected[:tokens]
        error, allowed = compare(program.result(y)[:len(expected)], expected), TOLERANCE[self.dtype]
        if error.relative > allowed:
            raise ValueError(f"{who} is wrong at {tokens} tokens: its error is "
                             f"{error.relative:.3g}, {allowed:.3g} is allowed")
        return error

    def is_cached(self) -> bool:
        """Whether all weights stay in the cache: only arithmetic bounds such a layer."""
        return self.case.experts * self.case.expert_bytes(self.dtype) < self.cache_bytes

    def probes_for(self, flops: int, touched: float, roof: Roof) -> list[str]:
        """Of what may bound a point: arithmetic first, while cores have the clock of the calls."""
        peak = max(roof.flops[self.dtype], self.probes["flops"]())  # moe-run's has no AMX
        return roof.meanwhile(self.dtype, [], [peak]).worth_probing(flops, touched, self.dtype)

    def measure(self, tokens: int, threads: int, name: str = "", peer=None) -> dict:
        """A point: ours against a peer, or alone."""
        before, case, job = self.roofs[threads], self.case, self.job
        programs = {"ours": self.ours} | ({name: peer} if peer else {})
        for program in programs.values():
            program.set_threads(threads)
        batches, met = self.batches(tokens)
        growth = self.ours.memory(batches[0])
        errors = [self.check(program, who, batches[0], threads)
                  for who, program in programs.items()]
        touched = case.touched_bytes(self.dtype, tokens, statistics.mean(met))
        flops, streamed = case.flops(tokens), 0 if self.is_cached() else touched
        probes = self.probes_for(flops, streamed, before)
        inputs = [tuple(program.input(batch) for program in programs.values())
                  for batch in batches]
        with ForeignLoad() as load:
            times = interleave([program.run for program in programs.values()], inputs,
                               job["seconds"], job["pairs"],
                               [self.probes[name] for name in probes])
        routing, regions = self.routing([each[0] for each in inputs])
        probed = {"read": [], "flops": []} | dict(zip(probes, times.probed))
        roof = before.meanwhile(self.dtype, **probed)
        bound, by = roof.bound(flops, streamed, self.dtype)
        bound_before, _ = before.bound(flops, streamed, self.dtype)
        point = {"case": case.name, "dtype": self.dtype, "tokens": tokens, "threads": threads,
                 "pairs": len(times.seconds[0]), "flops": flops, "touched_bytes": round(touched),
                 "bound_seconds": bound, "bound_by": by, "roof": roof._asdict(),
                 "bound_before_seconds": bound_before, "roof_before": before._asdict(),
                 "read_meanwhile": len(probed["read"]), "flops_meanwhile": len(probed["flops"]),
                 "foreign_cores": load.cores,
                 "compile_seconds": self.ours.compile_seconds, "batches": len(met),
                 "round_bytes": sum(met) * case.expert_bytes(self.dtype),
                 "routing_seconds": routing, "regions": regions,
                 "ours_weights": self.job["weights"], "pack_seconds": self.ours.pack_seconds,
                 "packed_bytes": self.ours.packed_bytes,
                 "memory": growth._asdict() | {"allowed_beyond": allowed_beyond(threads)}}
        for who, program, error, seconds in zip(("ours", "peer"), programs.values(), errors,
                                                times.seconds):
            median = statistics.median(seconds)
            point |= {f"{who}_rounding": program.rounding, f"{who}_error": error._asdict(),
                      f"{who}_seconds": median, f"{who}_min_seconds": min(seconds),
                      f"{who}_share": bound / median, f"{who}_share_before": bound_before / median}
        if not peer:
            return point
        ratio = stats.paired_ratio(*times.seconds)
        return point | {"peer": name, **ratio_fields(ratio), "verdict": stats.verdict(ratio),
                        "peer_prepared_bytes": self.prepared}

    def routing(self, inputs: list) -> tuple[float, int]:
        """The median of what a call of ours takes until its experts begin, on inputs in turn."""
        found, start = [], time.perf_counter()
        while len(found) < ROUTINGS and time.perf_counter() - start < 1:
            found.append(self.ours.routing(inputs[len(found) % len(inputs)]))
        return statistics.median(seconds for seconds, _ in found), found[0][1]

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
        times = interleave((ours.run, ours.run), pairs, job["seconds"], job["pairs"])
        ratio = stats.paired_ratio(*times.seconds)
        return {"case": case.name, "dtype": self.dtype, "tokens": tokens, "threads": threads,
                "skew": skew, "experts_met": met, "pairs": len(times.seconds[0]),
                "even_seconds": statistics.median(times.seconds[0]),
                "skewed_seconds": statistics.median(times.seconds[1]), **ratio_fields(ratio)}


def ratio_fields(ratio: stats.Ratio) -> dict:
    """JSON has no infinity: an interval without ends is null."""
    finite = all(abs(end) != float("inf") for end in ratio)
    return {"ratio": ratio.median, "ratio_interval": [ratio.low, ratio.high] if finite else None}


def say(point: dict) -> None:
    """A line of progress."""
    told = "{case} {dtype} T={tokens} {threads} threads: {ms:.3f} ms".format(
        ms=point["ours_seconds"] * 1e3, **point)
    if "peer" in point:
        told += ", {peer} {ms:.3f} ms, ratio {ratio:.3f} {verdict}".format(
            ms=point["peer_seconds"] * 1e3, **point)
    print(told, flush=True)


def run_job(job: dict) -> dict:
    """{"points": …, "not_run": …, …}; what fails is told there, and the rest goes on."""
    result: dict[str, list] = {"points": [], "alone": [], "skews": [], "not_run": []}

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
    for tokens, threads in job["alone"]:
        try:
            result["alone"].append(bench.measure(tokens, threads))
            say(result["alone"][-1])
        except expected as error:
            failed("ours", error, [[tokens, threads]])
    for skew, tokens, threads in job["skews"]:
        try:
            result["skews"].append(bench.measure_skew(skew, tokens, threads))
        except expected as error:
            failed(f"ours, {skew}", error, [[tokens, threads]])
    while loaded:
        name, peer = loaded.popitem()  # so that its packed weights go before the next one's come
        before = resident()
        try:
            peer.prepare(bench.case, bench.weights)
            bench.prepared = max(0, resident() - before)
        except expected as error:
            failed(name, error)
            continue
        for tokens, threads in job["peers"][name]:
            try:
                result["points"].append(bench.measure(tokens, threads, name, peer))
                say(result["points"][-1])
            except expected as error:
                failed(name, error, [[tokens, threads]])
        del peer
    return result


if __name__ == "__main__":
    outcome = run_job(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(outcome))
