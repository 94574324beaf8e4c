"""Check that a report of moe-run has the keys that programs rely on: check_json.py REPORT."""

import json
import sys

NUMBER, TEXT = (int, float), str
TIMING = {"warm_up_calls": int, "calls": int, "median_seconds": NUMBER, "min_seconds": NUMBER,
          "max_seconds": NUMBER}
WORK = {"contraction_flops": NUMBER,
        "contraction_flops_by_type": {t: NUMBER for t in ("f64", "f32", "f16", "bf16", "integer")},
        "uncounted_contractions": int,
        "expert_ops": [{"experts": int, "experts_with_rows": int, "rows": int}],
        "weight_bytes": int, "touched_weight_bytes": int, "activation_bytes": int}
ROOF = {"threads": int, "f64_flops_per_second": NUMBER, "f32_flops_per_second": NUMBER,
        "bf16_flops_per_second": (*NUMBER, type(None)), "read_bytes_per_second": NUMBER,
        "vector_bits": int, "cache_bytes": int, "buffer_bytes": int}
REPORT = {
    "format": int, "file": TEXT, "entry": TEXT, "threads": int, "seed": int, "passed": bool,
    "target": {"triple": TEXT, "cpu": TEXT, "opt_level": int},
    "arguments": [{"name": TEXT, "type": TEXT, "shape": [int], "bytes": int, "source": TEXT,
                   "mapped": bool}],
    "results": [{"name": TEXT, "type": TEXT, "shape": [int], "bytes": int, "file": TEXT}],
    "notes": [TEXT],
    "seconds": {"compile": NUMBER, "load": NUMBER, "first_call": NUMBER},
    "checks": None,  # Floats and integers differ; below.
    "benchmark": {"timing": TIMING, "work": WORK, "roof": ROOF, "flops_per_second": NUMBER,
                  "touched_weight_bytes_per_second": NUMBER, "bound_seconds": NUMBER,
                  "bound_by": TEXT, "roof_share": NUMBER, "generated_code_threads": int},
    "routing": [],  # Without --stats; check_stats.py has the rest.
    "packing": None,  # Without --pack-weights.
    "peak_resident_bytes": int,
}
CHECK = {"result": TEXT, "against": TEXT, "passed": bool, "exact": bool, "rows": int,
         "worst_row": int}
FLOATS, INTEGERS = {"error": NUMBER, "tolerance": NUMBER}, {"unequal_elements": int}


def check(value: object, schema: object, where: str) -> None:
    """Exit with a message unless `value` has the keys and types of `schema`, and no others."""
    if isinstance(schema, dict):
        if not isinstance(value, dict) or set(value) != set(schema):
            sys.exit(f"{where}: has {sorted(value)}, should have {sorted(schema)}")
        for key, inner in schema.items():
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            sys.exit(f"{where}: {value!r} is no list")
        if value and not schema:
            sys.exit(f"{where}: {value!r} should be empty")
        for i, item in enumerate(value):
            check(item, schema[0], f"{where}[{i}]")
    elif schema is not None and not isinstance(value, schema):
        sys.exit(f"{where}: {value!r} is no {schema}")


with open(sys.argv[1], encoding="utf-8") as file:
    report = json.load(file)
check(report, REPORT, "report")
for entry in report["checks"]:
    check(entry, CHECK | (INTEGERS if entry["exact"] else FLOATS), "check")

# T = 5 tokens, k = 2, E = 4, H = 8, I = 6: the router, and three matmuls a row.
work = report["benchmark"]["work"]
assert work["contraction_flops"] == 2 * (5 * 8 * 4) + 10 * 3 * 2 * (8 * 6), work
assert work["contraction_flops"] == work["contraction_flops_by_type"]["f32"], work
assert work["expert_ops"][0]["rows"] == 10 and work["expert_ops"][0]["experts"] == 4, work
active = work["expert_ops"][0]["experts_with_rows"]
assert work["touched_weight_bytes"] == 4 * (4 * 8 + active * 3 * 6 * 8), work
assert work["weight_bytes"] == 4 * (4 * 8 + 4 * 3 * 6 * 8), work
assert work["activation_bytes"] == 4 * (5 * 8 + 5 * 8 + 5 * 2), work

# What is derived follows from what was measured.
benchmark = report["benchmark"]
timing, roof = benchmark["timing"], benchmark["roof"]
assert 0 < timing["min_seconds"] <= timing["median_seconds"] <= timing["max_seconds"], timing
assert timing["calls"] >= 3 and timing["warm_up_calls"] >= 1, timing
assert roof["buffer_bytes"] >= 4 * roof["cache_bytes"] > 0, roof
bound = work["contraction_flops"] / roof["f32_flops_per_second"]
assert abs(benchmark["bound_seconds"] - bound) <= 1e-9 * bound, benchmark
assert benchmark["bound_by"] == "arithmetic", benchmark  # All weights fit into the cache.
share = bound / timing["median_seconds"]
assert abs(benchmark["roof_share"] - share) <= 1e-9 * share, benchmark
assert 0 < share < 1, share
# Any machine that runs this has more than a GFLOP/s and a GB/s, and less than 10^6 of them.
for rate in ("f64_flops_per_second", "f32_flops_per_second", "read_bytes_per_second"):
    assert 1e9 < roof[rate] < 1e15, roof
print("report: ok")
