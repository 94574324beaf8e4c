"""Check the peak memory of a run: check_memory.py REPORT.

It is at most weights + one expert + activations + 64 MB. What the layer allocates inside is counted
with the activations: rows and results of the experts, for make_large.py.
"""

import json
import sys

T, K, H, I, E = 4, 2, 512, 1024, 48
with open(sys.argv[1], encoding="utf-8") as file:
    report = json.load(file)
arguments = {argument["name"]: argument for argument in report["arguments"]}
weights = sum(argument["bytes"] for name, argument in arguments.items() if name != "x")
assert weights > 390e6, weights
assert not arguments["wg"]["mapped"] and arguments["dense"]["mapped"], arguments
expert = 3 * 4 * H * I
inside = 4 * (T * E + 2 * T * K * H + 4 * T * K * I)
activations = arguments["x"]["bytes"] + sum(r["bytes"] for r in report["results"]) + inside
bound = weights + expert + activations + 64_000_000
peak = report["peak_resident_bytes"]
# Less than the weights would mean that they were not there, or that nobody counted.
assert weights < peak <= bound, f"peak {peak}, bound {bound}, weights {weights}"
print(f"memory: {peak / 1e6:.1f} MB of {bound / 1e6:.1f} MB that are allowed")
