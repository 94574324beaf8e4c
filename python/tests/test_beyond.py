"""The noise of `test/Zoo/Beyond/noisy-top-k.mlir`, as `beyond.py` has it: is it normal?

The files themselves are run by lit.
"""

from __future__ import annotations

import numpy as np

from beyond import lowbias32, uniform

COUNT = 1 << 20


def test_the_hash_is_a_permutation():
    """Of 32 bits: no two counters share a number. Tested on 2^20 of them, spread over all."""
    counters = np.arange(COUNT, dtype=np.uint64) * 4093 & 0xffffffff
    assert len(np.unique(lowbias32(counters))) == COUNT


def test_the_noise_is_normal():
    """Mean, variance, tails, and no correlation of neighbours: each within 5 sigma."""
    counters = lowbias32(np.array([7], np.uint64)) + 2 * np.arange(COUNT, dtype=np.uint64)
    u1, u2 = uniform(counters), uniform(counters + 1)
    assert 0 < u1.min() and u1.max() < 1
    noise = np.sqrt(-2 * np.log(u1)) * np.cos(2 * np.pi * u2)
    sigma = COUNT ** -0.5
    assert abs(noise.mean()) < 5 * sigma
    assert abs(noise.var() - 1) < 5 * sigma * 2 ** 0.5
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 * sigma
    assert abs((np.abs(noise) > 2).mean() - 0.0455003) < 5 * sigma * 0.21
