"""One process on the GPU: checks or times layers of one case and type, or measures the machine.

    python worker.py JOB.json OUT.jsonl

run.py starts it, and a new one for what is left where a kernel broke or hung: a line of OUT.jsonl
is the outcome of one item of the job, written as soon as it is known.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "python")]

from gpu import check, device, variants  # noqa: E402
from gpu.layer import Layer  # noqa: E402


def check_items(job: dict, gpu) -> Iterator[tuple[str, Callable[[], dict]]]:
    """A check for each artifact of the job."""
    bundle = variants.read_bundle(Path(job["bundle"]))
    artifacts = [a for a in bundle.artifacts if a.variant.name in job["items"]]
    variant = artifacts[0].variant
    bench = check.Bench(variant.case, variant.dtype, gpu, job["distinct"])
    for artifact in artifacts:
        yield artifact.variant.name, lambda: check.check_artifact(
            bench, artifact, Layer(bundle.path(artifact)), tuple(job["counts"]), job["repeats"])


def time_items(job: dict, gpu) -> Iterator[tuple[str, Callable[[], dict]]]:
    """A measurement for each number of tokens of the job."""
    from gpu import timing_bench
    bench = timing_bench.Bench(job, gpu)
    for item in job["items"]:
        yield item, lambda: bench.measure(int(item))


def probe_items(_: dict, gpu) -> Iterator[tuple[str, Callable[[], dict]]]:
    """What the GPU is."""
    def describe() -> dict:
        return {"gpu": gpu.name, "chip": f"sm_{gpu.chip}", "multiprocessors": gpu.multiprocessors,
                "is_emulated": gpu.is_emulated, "software": gpu.software}
    yield "probe", describe


def roof_items(_: dict, gpu) -> Iterator[tuple[str, Callable[[], dict]]]:
    """What the GPU can do at most."""
    from gpu import clock
    yield "roof", lambda: clock.measure_roof(gpu.torch)._asdict()


MODES = {"check": check_items, "time": time_items, "probe": probe_items, "roof": roof_items}


def main(source: str, out: str) -> int:
    """0, or 3 where the GPU may be of no more use to this process."""
    job = json.loads(Path(source).read_text())
    with open(out, "a", encoding="utf-8") as lines:
        def tell(item: str, outcome: dict) -> None:
            lines.write(json.dumps({"item": item, **outcome}) + "\n")
            lines.flush()
        item = job["items"][0]
        try:
            gpu = device.MEMORIES[job["memory"]]()
            for item, act in MODES[job["mode"]](job, gpu):
                # A kernel that hangs does not end by itself.
                faulthandler.dump_traceback_later(job["limit"], exit=True)
                try:
                    tell(item, {"found": act()})
                except check.Failure as failure:
                    tell(item, {"failed": str(failure)})
                faulthandler.cancel_dump_traceback_later()
        except (device.DeviceError, RuntimeError, MemoryError) as error:
            tell(item, {"failed": f"{type(error).__name__}: {error}"})
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
