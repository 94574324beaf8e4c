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
import stats
from cases import CASES, Case
from machine import ForeignLoad, Roof, measure_roof

LEAST_PAIRS, MOST_PAIRS = 6, 400


def interleave(first, second, inputs, seconds: float, pairs: int = 0) -> tuple[list, list]:
    """Times of A B A B …, each pair on the next input: `pairs` of them or, at 0, for `seconds`.

    Slow programs get at least LEAST_PAIRS, unless these take five times as long.
    """
    times: tuple[list[float], list[float]] = [], []

    def once(side: int, at: int) -> float:
        run, x = (first, second)[side].run, inputs[at % len(inputs)][side]
        start = time.perf_counter()
        run(x)
        return time.perf_counter() - start

    warm = time.perf_counter()
    for at in range(len(inputs)):
        once(0, at), once(1, at)
        if time.perf_counter() - warm > seconds / 4:
            break
    start, done = time.perf_counter(), 0
    while done < pairs if pairs else done < MOST_PAIRS:
        for side in (0, 1):
            times[side].append(once(side, done))
        done, spent = done + 1, time.perf_counter() - start
        if not pairs and spent > (seconds if done >= LEAST_PAIRS else 5 * seconds):
            break
    return times


def check(program, who: str, x, expected, dtype: str) -> float:
    """The error against float64; a program that is wrong is not timed."""
    error = data.error(program.result(program.run(program.input(x))), expected)
    if error > data.TOLERANCE[dtype]:
        raise ValueError(f"{who} is wrong: its error is {error:.3g}, {data.TOLERANCE[dtype]:.3g} "
                         "is allowed")
    return error


def describe(case: Case, dtype: str, tokens: int, met: list[int], roof: Roof, ours: list[float],
             peer: list[float]) -> dict:
    """The figures of a point."""
    ratio = stats.paired_ratio(ours, peer)
    flops = case.flops(tokens)
    touched = case.touched_bytes(dtype, tokens, 1) + (
        statistics.mean(met) - 1) * case.expert_bytes(dtype)
    # Weights that stay in the cache are not read from memory: only arithmetic bounds them.
    cached = case.experts * case.expert_bytes(dtype) < roof.cache
    bound, by = roof.bound(flops, 0 if cached else touched, dtype)
    ours_median, peer_median = statistics.median(ours), statistics.median(peer)
    finite = all(abs(end) != float("inf") for end in ratio)
    return {
        "pairs": len(ours), "ours_seconds": ours_median, "peer_seconds": peer_median,
        "ours_min_seconds": min(ours), "peer_min_seconds": min(peer),
        "ratio": ratio.median, "ratio_interval": [ratio.low, ratio.high] if finite else None,
        "verdict": stats.verdict(ratio), "flops": flops, "touched_bytes": round(touched),
        "bound_seconds": bound, "bound_by": by, "ours_share": bound / ours_median,
        "peer_share": bound / peer_median, "roof": roof._asdict(), "batches": len(met),
        "round_bytes": sum(met) * case.expert_bytes(dtype),
    }


def measure_peer(job: dict, case: Case, weights: data.Weights, ours, name: str, peer,
                 say) -> list[dict]:
    """All points of one peer."""
    dtype, points = job["dtype"], []
    peer.prepare(case, weights)
    x = data.decided(case, weights, data.make_inputs(case, weights, 64, 0, most=2)[0][0])
    expected = data.reference(case, weights, x)
    errors = {"ours_error": check(ours, "ours", x, expected, dtype),
              "peer_error": check(peer, name, x, expected, dtype)}
    for tokens, threads in job["points"]:
        roof = measure_roof(threads)
        for program in (ours, peer):
            program.set_threads(threads)
        batches, met = data.make_inputs(case, weights, tokens, roof.cache)
        inputs = [(ours.input(batch), peer.input(batch)) for batch in batches]
        with ForeignLoad() as load:
            times = interleave(ours, peer, inputs, job["seconds"], job["pairs"])
        points.append({"case": case.name, "dtype": dtype, "tokens": tokens, "threads": threads,
                       "peer": name, "ours_rounding": ours.rounding, "peer_rounding": peer.rounding,
                       "foreign_cores": load.cores, "compile_seconds": ours.compile_seconds,
                       **errors, **describe(case, dtype, tokens, met, roof, *times)})
        say(points[-1])
    return points


def say(point: dict) -> None:
    """A line of progress."""
    print("{case} {dtype} T={tokens} {threads} threads: {ours:.3f} ms, {peer} {theirs:.3f} ms, "
          "ratio {ratio:.3f} {verdict}".format(ours=point["ours_seconds"] * 1e3,
                                               theirs=point["peer_seconds"] * 1e3, **point),
          flush=True)


def run_job(job: dict) -> dict:
    """{"points": …, "not_run": …}; what fails is told there, and the rest goes on."""
    case, dtype = CASES[job["case"]], job["dtype"]
    result: dict[str, list] = {"points": [], "not_run": []}
    try:
        loaded = {name: peers.load(name) for name in job["peers"]}
        import ours as our_side  # after the peers: it joins the OpenMP of a torch that is there
        weights, ours = data.make_weights(case, dtype), our_side.Peer()
        ours.prepare(case, weights)
    except (NotImplementedError, ImportError, RuntimeError, OSError) as error:
        result["not_run"].append({"case": case.name, "dtype": dtype, "peer": ", ".join(job["peers"]),
                                  "reason": str(error), "failed": True})
        return result
    while loaded:
        name, peer = loaded.popitem()  # so that its packed weights go before the next one's come
        try:
            result["points"] += measure_peer(job, case, weights, ours, name, peer, say)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            result["not_run"].append({"case": case.name, "dtype": dtype, "peer": name,
                                      "reason": str(error),
                                      "failed": not isinstance(error, NotImplementedError)})
        del peer
    return result


if __name__ == "__main__":
    outcome = run_job(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(outcome))
