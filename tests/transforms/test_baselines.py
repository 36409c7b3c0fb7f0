"""Statistics-only scales against hand-worked values and their own definitions in plain Python."""

import statistics

import pytest
import torch

from qroar_core.transforms.baselines import mad_clipped, smooth_attention
from qroar_core.transforms.bounds import log2_bounds


def test_smooth_attention_matches_a_hand_worked_head():
    g = smooth_attention(torch.tensor([1.0, 4.0, 16.0]))  # square roots 1, 2, 4: geometric mean 2
    assert g.tolist() == pytest.approx([0.5, 1.0, 2.0], rel=1e-12)


def test_smooth_attention_alpha_one_equalises_and_alpha_zero_is_identity():
    absmax = torch.tensor([[0.3, 7.0, 2.0, 1.0]], dtype=torch.float64)
    assert smooth_attention(absmax, alpha=0.0).tolist() == [[1.0] * 4]
    equal = absmax / smooth_attention(absmax, alpha=1.0)
    assert equal.tolist()[0] == pytest.approx([float(equal[0, 0])] * 4, rel=1e-12)


def test_smooth_attention_of_a_dead_band_stays_finite():
    g = smooth_attention(torch.tensor([0.0, 1.0]))
    assert bool((g > 0).all())
    assert bool(torch.isfinite(g).all())


def test_mad_shrinks_only_the_outlier_band():
    absmax = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.2, 40.0]
    g = mad_clipped(torch.tensor(absmax, dtype=torch.float64))
    import math

    level = [math.log2(a) for a in absmax]
    middle = statistics.median(level)
    sigma = 1.4826 * statistics.median(abs(x - middle) for x in level)
    line = 2 ** (middle + 3 * sigma)
    assert g[:7].tolist() == [1.0] * 7
    assert float(g[7]) == pytest.approx(40.0 / line, rel=1e-12)


def test_bounds_match_the_formula_and_always_contain_one():
    pressure = torch.tensor([0.0, 1.0, 3.0])
    tails = torch.tensor([[1.0, 2.0, 0.5]])
    low_high = log2_bounds(pressure, tails, "symmetric", max_log2_scale=2.0, pressure_weight=0.5, tau=1.0)
    # median pressure 1: kappa = 2, 2/1.5, 2/2.5; tails widen the upper side by log2 max(TIR, 1)
    assert low_high[0, :, 0].tolist() == pytest.approx([-2.0, -4 / 3, -0.8])
    assert low_high[0, :, 1].tolist() == pytest.approx([2.0, 4 / 3 + 1, 0.8])
    shared = log2_bounds(pressure, tails, "shared", max_log2_scale=2.0, pressure_weight=0.5, tau=1.0)
    assert shared[0, :, 0].tolist() == pytest.approx([-2.0, -4 / 3 - 1, -0.8])
    assert shared[0, :, 1].tolist() == pytest.approx([2.0, 4 / 3, 0.8])


def test_bounds_without_interpolation_are_the_plain_kappa():
    low_high = log2_bounds(
        torch.zeros(4), torch.ones(2, 4), "symmetric", max_log2_scale=3.0, pressure_weight=9.0, tau=1.0
    )
    assert low_high[..., 0].eq(-3).all()
    assert low_high[..., 1].eq(3).all()
