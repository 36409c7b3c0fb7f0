"""What costs and ranks say: sums window by window, verbs by interval, diagnostics out of a diagnosis."""

import pytest

from qroar_core.diagnostics.result import LayerGroupDiagnosis
from qroar_core.evidence.prediction.findings import added_up, costs, measured, prediction_verb, sentences
from qroar_core.evidence.prediction.result import Rank
from tests.helpers import planted
from tests.helpers import planted_prediction as made


def test_costs_are_paired_over_windows():
    """Differences of a band are cost + s * (-1, 0, 1, 0) mil; t of three degrees of freedom is 3.1824."""
    result = made.prediction()
    for b, part in enumerate(result.bands):
        se = (1 + 0.1 * b) * 0.001 * (2 / 3) ** 0.5 / 2
        assert part.nll == pytest.approx(made.COST[b])
        assert part.high - part.nll == pytest.approx(3.182446 * se, rel=1e-5)
        assert part.nll - part.low == pytest.approx(3.182446 * se, rel=1e-5)
    assert result.whole.nll == pytest.approx(made.WHOLE_COST)


def test_parts_add_up_window_by_window_against_the_whole():
    """0.2 of the bands and 0.005 unrotated against 0.25; spreads: 1 + ... + 1.4 and 1 against 2."""
    total = made.prediction().sum
    assert total.nll == pytest.approx(0.205)
    assert total.ratio == pytest.approx(0.205 / 0.25)
    assert total.apart == pytest.approx(-0.045)
    se = 0.001 * (2 / 3) ** 0.5 / 2
    assert total.high - total.nll == pytest.approx(7 * 3.182446 * se, rel=1e-5)
    assert total.apart_high - total.apart == pytest.approx(5 * 3.182446 * se, rel=1e-5)
    said = made.prediction().findings[-2]
    assert "0.82 times the +0.2500" in said
    assert "they do not add up exactly (apart by -0.0450" in said
    exact = made.prediction(cost=(0.05, 0.05, 0.05, 0.05, 0.0451)).findings
    assert any("they add up (apart by +0.0001" in line for line in exact)


def test_a_whole_that_costs_nothing_has_no_ratio():
    result = made.prediction()
    flat = {name: list(made.HARD) for name in result.window_nll}
    flat["all together"] = [h + off for h, off in zip(made.HARD, (0.1, -0.1, 0.1, -0.1))]
    pairs = {part.name: part.pairs for part in result.parts}
    total = added_up(flat, list(pairs), 0.95)
    assert total.ratio is None
    (whole,) = costs(flat, {"all together": None}, 0.95)
    told = sentences(costs(flat, pairs, 0.95), whole, total, result.diagnostics, None, None)
    assert "not significantly above zero" in told["findings"][-1]
    assert "0 of 5 bands cost something significant" in told["findings"][-2]


def test_the_headline_says_what_pressure_does_and_the_findings_what_others_do():
    result = made.prediction()
    assert result.headline == (
        "Interpolation pressure ranks in reverse order what a band costs here: rho -1.00 [-1.00, -0.05] over 5 bands"
    )
    assert result.findings[0] == (
        "Band by band, 1 of 2 diagnostics predict: logit noise (+1.00 [+0.05, +1.00]); for comparison largest |k| "
        "does not predict (+0.80 [-0.32, +0.99])"
    )
    assert "By layer and band, 1 of 2 diagnostics predict: logit noise (+" in result.findings[1]
    assert result.findings[2].startswith("5 of 5 bands cost something significant when rounded alone")
    assert result.findings[-1].startswith("The estimate by layer and band, summed over layers, orders the bands")
    alone = made.prediction(grid=False)
    assert not any("estimate" in line or "By layer" in line for line in alone.findings)
    assert [d.by_cell for d in alone.diagnostics] == [None] * 4
    many = made.prediction(bands=12)
    assert many.findings[0].startswith("Band by band, 1 of 2 diagnostics predict: logit noise (")


@pytest.mark.parametrize(
    ("low", "high", "verb"),
    [
        (0.1, 0.9, "predicts"),
        (-0.1, 0.9, "does not predict"),
        (-0.9, -0.1, "ranks in reverse order"),
        (0, 1, "does not predict"),
    ],
)
def test_the_verb_follows_the_interval(low, high, verb):
    assert prediction_verb(Rank(rho=(low + high) / 2, low=low, high=high, points=9)) == verb


def test_what_is_the_same_in_every_band_is_not_ranked():
    tail = next(d for d in made.prediction().diagnostics if d.name == "tail_k")
    assert (tail.by_band, tail.by_cell) == (None, None)
    assert prediction_verb(tail.by_band) == "cannot be compared with"


def test_halves_of_the_windows_are_compared_with_each_other():
    """Windows 0 and 2 against 1 and 3: the spreads cancel in both, the order is the same."""
    assert made.prediction().repeated.rho == pytest.approx(1.0)
    assert made.prediction().repeated.low < 1


def test_diagnostics_come_out_of_a_diagnosis_by_layer_and_band():
    found = {one.name: one for one in measured(planted.diagnosis())}
    assert found["interpolation_pressure"].layers == [[0.5, 4.0]] * 2
    assert found["logit_change"].layers == [[0.02, 0.004], [0.01, 0.01]]  # each layer's own, and no bound
    assert found["logit_change"].bands == pytest.approx([0.015, 0.007])
    assert found["logit_change"].words == "logit change by the interpolation"
    assert "logit_weighted_pressure" not in found
    older = planted.diagnosis().model_copy(update={"logit_change": None})  # its file keeps the bound alone
    assert "logit_change" not in {one.name for one in measured(older)}
    assert found["tail_k"].layers == [[1.0, 1.5], [1.1, 2.0]]
    assert found["tail_k"].bands == pytest.approx([1.05, 1.75])
    assert found["logit_noise"].bands == pytest.approx([0.075, 0.25])
    assert found["k_absmax"].layers == [[2.0, 4.0], [2.5, 3.5]]  # the largest bin; empty bins do not count
    assert found["k_energy"].layers[0] == pytest.approx([4 * (1 + 4) / 2, 4 * (9 + 16) / 2])  # 4 channels a band
    assert [one.name for one in found.values() if one.baseline] == ["k_absmax", "k_energy"]
    assert "logit_noise" not in {one.name for one in measured(planted.diagnosis(quantized=False))}


def test_layers_without_rope_have_no_diagnostic():
    plain = planted.diagnosis()
    none = dict.fromkeys(("noise", "pair_error", "anisotropy", "pairs", "kernel"))
    known = {name: value for name, value in none.items() if name in LayerGroupDiagnosis.model_fields}
    groups = [
        LayerGroupDiagnosis(
            name="turning",
            layers=[1],
            theta=1e4,
            window=None,
            interpolated=True,
            reach=64,
            bands=[band.model_copy(update={"interpolation_pressure": 9.0}) for band in plain.bands],
            **known,
        ),
        LayerGroupDiagnosis(
            name="still", layers=[0], theta=None, window=None, interpolated=False, reach=64, bands=[], **known
        ),
    ]
    moved = plain.logit_change.model_copy(update={"layers": [1], "by_layer": [[0.3, 0.4]]})
    groups[0] = groups[0].model_copy(update={"logit_change": moved})
    found = {one.name: one for one in measured(plain.model_copy(update={"groups": groups}))}
    assert found["logit_change"].layers == [[None, None], [0.3, 0.4]]
    assert found["interpolation_pressure"].layers == [[None, None], [9.0, 9.0]]
    assert found["tail_k"].layers == [[None, None], [1.1, 2.0]]
    assert found["tail_k"].bands == [1.1, 2.0]
    assert found["logit_noise"].layers[0] == [None, None]
