"""Scales by hand: the error shown is a float64 recomputation's, and what is left out is counted."""

import numpy as np
import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.scale_search import manual_scales as probing
from qroar_core.scale_search import run as search
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.specs import WeightQuantSpec as Weights
from tests.scale_search.searching import INT4, TEXTS, asked, plant

ROPE = RopeSpec("yarn", 2.0)
BY_HAND = (0.5, -1.0, 2.0, 0.0)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However busy the machine, no row is left out."""
    monkeypatch.setattr(probing, "BUDGET", 1e9)


def recomputed(probe, per_band):
    """Mean over layers and heads of the summed KL(p || p(g)) over rows and windows, relative to g = 1."""
    taken = probe.objective.capture
    band = np.repeat(np.arange(4), 4)  # 16 pairs in 4 bands
    band = np.concatenate((band, band))  # half pairing: both channels of a pair

    def error(layer, head, g):
        total = 0.0
        for window in taken.windows:
            x = window[layer]
            q, k = (np.array(t, dtype=np.float64) for t in (x.q, x.k[head]))
            moved = k / g[band]
            step = np.abs(moved).max(1, keepdims=True) / 7  # int4, absmax, per token
            moved = np.clip(np.round(moved / step), -8, 7) * step
            for h in (2 * head, 2 * head + 1):
                for r, position in enumerate(x.rows.tolist()):
                    rows = []
                    for query, keys in ((q[h, r], k), (q[h, r] * g[band], moved)):
                        logits = keys[: position + 1] @ query * taken.scaling
                        p = np.exp(logits - logits.max())
                        rows.append(p / p.sum())
                    total += np.sum(rows[0] * np.log(rows[0] / rows[1]))
        return total

    heads = [(layer, head) for layer in range(2) for head in range(2)]
    g = 2.0 ** np.array(per_band)
    return np.mean([error(i, h, g) / error(i, h, np.ones(4)) for i, h in heads])


@pytest.fixture
def probe(tiny):
    return search.probe(
        plant(tiny(head_dim=32), [(1, 0)]), Setting(ROPE, INT4, search=asked(error_metric="rows")), TEXTS
    )


def test_error_by_hand_is_the_recomputed_one(probe):
    scales = probe.scales(BY_HAND)
    assert (scales.granularity, scales.mode) == ("model", "symmetric")
    assert scales.nested() == [2.0**x for x in BY_HAND]
    assert probe.value(scales) == pytest.approx(recomputed(probe, BY_HAND), rel=1e-3)
    assert probe.value(probe.scales((0.0,) * 4)) == 1.0
    assert abs(recomputed(probe, BY_HAND) - 1) > 0.01  # the comparison is not with 1


def test_one_band_alone_is_the_error_with_the_others_at_1(probe):
    alone = probe.alone(probe.scales(BY_HAND))
    for band, error in enumerate(alone):
        only = tuple(x if b == band else 0.0 for b, x in enumerate(BY_HAND))
        assert error == pytest.approx(recomputed(probe, only), rel=1e-3)
    assert alone[3] == 1.0


def test_statistics_only_scales_are_those_of_the_search_on_the_same_text(tiny):
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    probe, out = (
        search.probe(loaded, Setting(ROPE, INT4, search=asked()), TEXTS),
        search.run(loaded, Setting(ROPE, INT4, search=asked()), TEXTS),
    )
    assert torch.equal(probe.smooth.g, out.smooth.g)
    assert torch.equal(probe.mad.g, out.mad.g)
    assert (probe.windows, probe.rows) == (2, 16)
    starts = {c.label: c.objective for c in out.report.history}
    assert probe.value(probe.smooth) == pytest.approx(starts["smooth_attention"], rel=1e-6)
    assert probe.value(out.found) == pytest.approx(out.report.objective_found, rel=1e-5)


def test_a_slow_machine_gets_fewer_windows_and_rows_and_says_so(tiny, monkeypatch):
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    monkeypatch.setattr(probing, "BUDGET", 1e-9)
    monkeypatch.setattr(probing, "LEAST_ROWS", 4)
    few = search.probe(loaded, Setting(ROPE, INT4, search=asked(error_metric="rows")), TEXTS)
    assert (few.windows, few.rows) == (1, 4)
    assert all(x.q.shape[1] == x.out.shape[1] == len(x.rows) == 4 for x in few.objective.capture.windows[0])
    assert few.value(few.scales(BY_HAND)) == pytest.approx(recomputed(few, BY_HAND), rel=1e-3)


@pytest.mark.parametrize("quant", [QuantSpec(), QuantSpec(weights=Weights(4)), QuantSpec(v=QuantizerSpec(4))])
def test_where_the_cached_error_sees_nothing_it_is_refused_in_one_line(tiny, quant):
    with pytest.raises(BadSpec, match="scales by hand: the cached error sees K, q") as caught:
        search.probe(tiny(), Setting(ROPE, quant, search=asked()), TEXTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [(0.0,) * 3, (0.0, 0.0, 0.0, float("nan")), (0.0, 0.0, 0.0, float("inf"))])
def test_scales_by_hand_are_one_finite_number_a_band(probe, wrong):
    with pytest.raises(BadSpec, match="need 4 finite numbers, one per band"):
        probe.scales(wrong)


def test_a_gain_is_measured_on_the_windows_by_which_the_search_decides(tiny):
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    out = search.run(loaded, Setting(ROPE, INT4, search=asked()), TEXTS)
    decision = search.measure_gain(loaded, Setting(ROPE, INT4, search=asked()), out.found, TEXTS)
    assert decision.measured in out.report.reason
    assert decision.as_written() == out.as_written().report.decision
    ids = WindowScorer(loaded, ROPE, INT4, lambda step: None)
    windows = SearchProblem(loaded, ROPE, INT4, asked(), TEXTS).windows("development", 64, 8)
    lost = np.array(ids.nll(windows, None, "a")) - np.array(ids.nll(windows, out.found, "b"))
    assert decision.gain == pytest.approx(lost.mean(), abs=1e-12)
