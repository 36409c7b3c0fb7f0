"""Aliasing against distances walked one by one."""

import math

import pytest
import torch

from qroar_core.maths import aliasing

NATIVE = torch.tensor([1.0, 0.05, 0.011, 0.004, 0.0009], dtype=torch.float64)


def test_compression():
    scaled = NATIVE / torch.tensor([1.0, 1.0, 2.0, 4.0, 4.0])
    assert aliasing.compression(NATIVE, scaled).tolist() == pytest.approx([1, 1, 0.5, 0.25, 0.25])


@pytest.mark.parametrize("s", [1.0, 2.0])
@pytest.mark.parametrize("length", [300, 3000, 40_000])
def test_unseen_fraction_by_walking_every_distance(length, s):
    context, steps = 500, 20  # steps per token: the definition takes D as continuous
    expected = []
    for w in NATIVE.tolist():
        if w * context >= 2 * math.pi:
            expected.append(0.0)
            continue
        phases = [(w / s * d / steps) % (2 * math.pi) for d in range(length * steps)]
        expected.append(sum(p > w * context for p in phases) / len(phases))
    found = aliasing.unseen_phase_fraction(NATIVE, NATIVE / s, context, length)
    assert found.tolist() == pytest.approx(expected, abs=2e-3)
    if length == 40_000:
        assert max(expected) > 0.3


def brute_kernel(omega, first, last, length):
    return [sum(math.cos(w * d) for w in omega[first : last + 1]) / (last + 1 - first) for d in range(length + 1)]


def brute_side_peak(values):
    lobe = next((d for d in range(len(values) - 1) if values[d + 1] > values[d] + 1e-12), None)
    peaks = (
        []
        if lobe is None
        else [
            (values[d], -d) for d in range(max(lobe, 1), len(values) - 1) if values[d - 1] < values[d] >= values[d + 1]
        ]
    )
    return (max(peaks)[0], -max(peaks)[1]) if peaks else None


def test_float32_rounding_of_a_frequency_makes_no_phase_new():
    """One turn in the native window, up to the last digit of float32; the same frequencies at the same length."""
    native = torch.tensor([2 * math.pi / 128, 0.004]).double()
    rounded = native * (1 - 6e-8)
    assert aliasing.unseen_phase_fraction(rounded, native, 128, 128).tolist() == [0.0, 0.0]
    assert aliasing.unseen_phase_fraction(rounded, native, 128, 1024)[0] == 0.0
    assert aliasing.unseen_phase_fraction(rounded, native, 128, 129)[1] == pytest.approx(1 / 129, rel=1e-4)


def test_kernel_and_side_peak_by_python(monkeypatch):
    monkeypatch.setattr(aliasing, "BLOCK_DISTANCES", 97)  # several blocks, none aligned
    omega = [10_000 ** (-i / 16) for i in range(16)]
    bands, length = ((0, 3), (4, 7), (8, 11), (12, 15)), 1500
    found = aliasing.band_kernel(torch.tensor(omega), bands, length, points=100)
    assert found.low.shape == found.high.shape == (4, len(found.distance))
    assert len(found.distance) <= 100
    found_none = 0
    for b, (first, last) in enumerate(bands):
        values = brute_kernel(torch.tensor(omega).double().tolist(), first, last, length)
        width = int(found.distance[1])
        assert found.high[b].tolist() == pytest.approx([max(values[d : d + width]) for d in found.distance.tolist()])
        assert found.low[b].tolist() == pytest.approx([min(values[d : d + width]) for d in found.distance.tolist()])
        best = brute_side_peak(values)
        if best is None:
            found_none += 1
            assert math.isnan(found.side_peak[b])
            assert int(found.side_peak_at[b]) == -1
        else:
            assert float(found.side_peak[b]) == pytest.approx(best[0], abs=1e-12)
            assert int(found.side_peak_at[b]) == best[1]
    assert found_none == 1  # the slowest band never comes back within L


def test_one_pair_peaks_after_a_full_turn():
    found = aliasing.band_kernel(torch.tensor([2 * math.pi / 50]).double(), ((0, 0),), 120)
    assert float(found.side_peak[0]) == pytest.approx(1.0)
    assert int(found.side_peak_at[0]) in (50, 100)


def test_rounding_on_the_main_lobe_is_no_side_peak():
    jitter = torch.tensor([[1.0, 1 - 3e-16, 1 - 1e-16, 1 - 2e-15, 0.5, 0.2, 0.4, 0.3]], dtype=torch.float64)
    height, at = aliasing.side_peaks(jitter)
    assert (height.tolist(), at.tolist()) == ([0.4], [6])


@pytest.mark.parametrize("length", [1, 2])
def test_shortest_contexts(length):
    found = aliasing.band_kernel(NATIVE, ((0, 4),), length)
    assert math.isnan(found.side_peak[0])


def test_bad_lengths_are_refused():
    with pytest.raises(ValueError, match="length"):
        aliasing.band_kernel(NATIVE, ((0, 4),), 0)
    with pytest.raises(ValueError, match="contexts"):
        aliasing.unseen_phase_fraction(NATIVE, NATIVE, 0, 5)
