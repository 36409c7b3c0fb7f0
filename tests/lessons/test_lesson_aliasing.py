"""Lesson 4 against a direct sum of cosines in numpy."""

import numpy as np
import pytest

from qroar_core.lessons.aliasing import BUCKETS, aliasing
from qroar_core.lessons.heads import HEADS

PAIRS = np.arange(64)
NATIVE = 10_000.0 ** (-PAIRS / 64)


def summed(omega, first, last, reach):
    """C_b(D) one distance at a time."""
    return np.array([np.cos(omega[first : last + 1] * d).mean() for d in range(reach + 1)])


def highest_side_peak(kernel):
    """Highest point above both neighbours, past the first rise; None if none."""
    rises = [d for d in range(1, len(kernel)) if kernel[d] > kernel[d - 1] + 1e-12]
    tops = [
        d
        for d in range(1, len(kernel) - 1)
        if rises and d >= rises[0] and kernel[d] > kernel[d - 1] and kernel[d] >= kernel[d + 1]
    ]
    return max(tops, key=lambda d: kernel[d]) if tops else None


@pytest.mark.parametrize(
    ("method", "omega"),
    [
        ("linear", NATIVE / 4),
        ("ntk", (10_000.0 * 4 ** (128 / 126)) ** (-PAIRS / 64)),
    ],
)
def test_kernels_and_side_peaks_by_direct_sum(method, omega):
    reach = 1024
    shown = aliasing(HEADS[0], method, 4.0, 8, reach)
    assert shown.bucket == 1
    assert shown.distance == list(range(reach + 1))
    assert shown.bands == [(8 * b, 8 * b + 7) for b in range(8)]
    for found, frequencies in ((shown.native, NATIVE), (shown.scaled, omega)):
        for b, (first, last) in enumerate(shown.bands):
            kernel = summed(frequencies, first, last, reach)
            np.testing.assert_allclose(found.high[b], kernel, atol=1e-4)  # float32 frequencies, 1024 tokens
            np.testing.assert_array_equal(found.low[b], found.high[b])
            at = highest_side_peak(kernel)
            if at is None:
                assert (found.peak[b], found.peak_at[b]) == (None, -1)
            else:
                assert found.peak[b] == pytest.approx(kernel[at], abs=1e-4)
                assert found.peak_at[b] == at


def test_a_long_reach_is_bucketed_without_losing_the_peak():
    shown = aliasing(HEADS[0], "yarn", 4.0, 8, 16384)
    assert shown.bucket == 16
    assert len(shown.distance) <= BUCKETS
    kernel = summed(NATIVE, 0, 7, 16384)
    assert max(shown.native.high[0][1:]) == pytest.approx(max(kernel[16:]), abs=1e-12)
    for i in (0, 3, 500):
        cell = kernel[16 * i : 16 * i + 16]
        assert shown.native.low[0][i] == pytest.approx(cell.min(), abs=1e-12)
        assert shown.native.high[0][i] == pytest.approx(cell.max(), abs=1e-12)
