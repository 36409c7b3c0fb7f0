"""The search keeps to the bounds it reports, and the diagnosis widens them where tails inflate."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qroar_core.diagnostics import run as diagnose
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, RopeSpec
from tests.scale_search.searching import INT4, METHODS, TEXTS, asked, plant, run


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    granularity=st.sampled_from(["model", "layer", "kv_head"]),
    mode=st.sampled_from(["symmetric", "shared"]),
    objective=st.sampled_from(["cached", "full"]),
    max_log2_scale=st.floats(0.05, 3),
    pressure_weight=st.floats(0, 2),
    inflation=st.lists(st.floats(0.25, 8), min_size=8, max_size=8),
)
def test_found_scales_stay_within_the_reported_bounds(
    diagnosed, method, granularity, mode, objective, max_log2_scale, pressure_weight, inflation
):
    loaded, diagnosis = diagnosed
    table = [inflation[:4], inflation[4:]]
    spec = asked(
        method=method,
        granularity=granularity,
        mode=mode,
        objective=objective,
        max_log2_scale=max_log2_scale,
        pressure_weight=pressure_weight,
        steps=6,
        trials=6,
        grid_points=3,
    )
    out = search.run(
        loaded, Setting(RopeSpec("yarn", 2.0), INT4, search=spec), TEXTS, inflated(diagnosis, table, table)
    )
    bounds = torch.tensor(out.report.bounds, dtype=torch.float64)  # (layers, bands, 2)
    log2_g = out.found.g.log2()
    assert bool((log2_g >= bounds[:, None, :, 0] - 1e-6).all())
    assert bool((log2_g <= bounds[:, None, :, 1] + 1e-6).all())
    if granularity == "model":
        assert bool((log2_g == log2_g[0, 0]).all())


@pytest.fixture
def diagnosed(tiny):
    loaded = plant(tiny(), [(1, 0)])
    spec = DiagnosisSpec(length=128, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(4))
    return loaded, diagnose.run(loaded, Setting(RopeSpec("yarn", 2.0), INT4, diagnosis=spec), TEXTS["calibration"])


def inflated(diagnosis, q, k):
    return diagnosis.model_copy(update={"tail_inflation": {"post": {"q": q, "k": k}}})


ONES = [[1.0] * 4] * 2


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_inflated_tails_widen_the_side_that_shrinks_them(diagnosed, mode):
    loaded, diagnosis = diagnosed
    q, k = [[1, 1, 8, 1], [1, 1, 1, 1]], [[1, 4, 1, 1], [1, 1, 1, 0.5]]
    spec = asked(mode=mode, steps=1, tail_weight=0.5)
    flat, wide = (
        torch.tensor(
            search.run(
                loaded, Setting(RopeSpec("yarn", 2.0), INT4, search=spec), TEXTS, inflated(diagnosis, *tails)
            ).report.bounds
        )
        for tails in ((ONES, ONES), (q, k))
    )
    wider = torch.zeros(2, 4, 2)
    if mode == "symmetric":  # g > 1 divides k; q is no part of it
        wider[0, 1, 1] = 0.5 * 2
    else:  # g < 1 shrinks both
        wider[0, 1, 0], wider[0, 2, 0] = -0.5 * 2, -0.5 * 3
    assert torch.allclose(wide - flat, wider, atol=1e-6)
    without = run(loaded, spec).report.bounds  # no interpolation: no pressure, no narrowing
    assert without == [[(-6.0, 6.0)] * 4] * 2


def test_a_diagnosis_with_other_bands_widens_nothing(diagnosed):
    loaded, diagnosis = diagnosed
    other = inflated(diagnosis, [[8.0] * 4] * 2, [[8.0] * 4] * 2)
    spec = asked(bands=BandSpec(2), steps=1)
    assert run(loaded, spec, diagnosis=other).report.bounds == run(loaded, spec).report.bounds


def test_one_scale_for_the_model_keeps_to_the_narrowest_layer(diagnosed):
    loaded, diagnosis = diagnosed
    tails = [[8.0, 8.0, 2.0, 2.0], [1.0, 4.0, 8.0, 2.0]]
    out = run(loaded, asked(granularity="model", steps=1), diagnosis=inflated(diagnosis, tails, tails))
    assert [high for _, high in out.report.bounds[0]] == [6, 8, 7, 7]
    assert out.report.bounds[0] == out.report.bounds[1]


BY_HAND = ((-0.25, 0.5), (0.0, 0.0), (-1.0, 3.0), (0.0, 1.5))


@pytest.mark.parametrize("objective", ["cached", "full"])
@pytest.mark.parametrize("method", METHODS)
def test_bounds_by_hand_replace_the_diagnosed_and_are_kept_exactly(diagnosed, method, objective):
    loaded, diagnosis = diagnosed
    spec = asked(method=method, objective=objective, bounds=BY_HAND, steps=30, trials=12, grid_points=3)
    out = search.run(loaded, Setting(RopeSpec("yarn", 2.0), INT4, search=spec), TEXTS, diagnosis)
    assert out.report.bounds == [list(BY_HAND)] * 2
    log2_g = out.found.g.float().log2()
    for band, (low, high) in enumerate(BY_HAND):
        assert low <= float(log2_g[..., band].min())
        assert float(log2_g[..., band].max()) <= high
    assert bool((out.found.g[..., 1] == 1).all())
    assert bool((out.found.g[..., 2] > 1).any())  # the planted band is still repaired as far as it may
