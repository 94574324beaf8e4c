"""Check the random values that random.test wrote: check_random.py FOLDER."""

import statistics
import struct
import sys
from pathlib import Path

import tensors as ts

folder = Path(sys.argv[1])
made = ts.read_safetensors(folder / "a.safetensors")

x = struct.unpack("<2048f", made["x0"].data)  # Normal: bounds of five standard errors.
assert abs(statistics.fmean(x)) < 5 / 2048**0.5, statistics.fmean(x)
assert abs(statistics.pvariance(x) - 1) < 5 * (2 / 2048)**0.5, statistics.pvariance(x)
assert 2.5 < max(x) < 6 and -6 < min(x) < -2.5, (min(x), max(x))

w = [struct.unpack("<f", bytes(2) + made["w0"].data[i:i + 2])[0] for i in range(0, 2048, 2)]
assert all(abs(value) <= 0.125 for value in w) and max(w) > 0.12 and min(w) < -0.12
assert abs(statistics.pvariance(w) - 0.125**2 / 3) < 0.001, statistics.pvariance(w)

b = struct.unpack("<16d", ts.read_npy(folder / "b.npy").data)
assert all(abs(value) <= 2 for value in b) and max(b) > 0.25, b
assert len(set(b)) == 16, b
