"""One row a band: every column against the diagnosis's own lists, pooled here by numpy."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.band_labels import band_name, digits, span
from qroar_core.diagnostics.band_table import BandRow, band_table, to_csv
from qroar_core.diagnostics.bands.figure import helps, order, sample, short_titles, shortened, table, titles
from qroar_core.diagnostics.bands.result import BandCost
from qroar_core.diagnostics.pair_error.figure import amplitude_and_phase
from qroar_core.diagnostics.result import LayerGroupDiagnosis
from qroar_core.models.text import Document
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers import planted, planted_prediction

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
SPEC = DiagnosisSpec(
    length=100,
    short_length=32,
    paired_tokens=16,
    windows=2,
    bands=BandSpec(3),
    chunk=40,
    eps=0.02,
    query_rows=9,
    position_bins=6,
)


@pytest.fixture
def found(tiny):
    return diagnose.run(tiny(), Setting(RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)), diagnosis=SPEC), TEXT)


def array(nested):
    return np.array(nested, dtype=float)


def test_numbers_are_shown_with_the_digits_that_their_sample_supports():
    row = band_table(planted.diagnosis())[0].model_copy(
        update={
            "logit_pressure_nats": 3.2562,
            "logit_pressure_error_nats": 0.32,
            "turns": 1304.21,
            "outlier_magnitude_k": 5.4321,
            "side_peak": None,
        }
    )
    names = ("logit_pressure_nats", "turns", "outlier_magnitude_k", "side_peak")
    assert [digits(row, name, "none") for name in names] == ["3.3", "1300", "5.4", "none"]
    assert shortened(planted.diagnosis())["logit_pressure_nats"] == ["0.0150", "0.0070"]  # +- 0.0005 and 0.0002


def test_every_column_is_what_the_diagnosis_holds(found):
    rows = band_table(found)
    assert [row.band for row in rows] == [0, 1, 2]
    assert {row.layers for row in rows} == {"all layers"}
    errors = found.pair_error
    assert len(set(errors.pairs[0])) > 1  # bins of unequal size, so that their weights show
    for b, row in enumerate(rows):
        band = found.bands[b]
        pairs = slice(band.first_pair, band.last_pair + 1)
        native = 2 * np.pi / array(found.pairs.native_inv_freq[pairs])
        stretched = 2 * np.pi / array(found.pairs.inv_freq[pairs])
        wanted = {
            "first_pair": band.first_pair,
            "last_pair": band.last_pair,
            "native_wavelength_min_tokens": native.min(),
            "native_wavelength_max_tokens": native.max(),
            "wavelength_min_tokens": stretched.min(),
            "wavelength_max_tokens": stretched.max(),
            "turns": np.mean(found.pairs.turns[pairs]),
            "pressure_rad": np.mean(found.pairs.interpolation_pressure[pairs]),
            "phase_displacement_rad": np.mean(found.pairs.phase_displacement[pairs]),
            "unseen_phase": np.mean(found.pairs.unseen_phase[pairs]),
            "side_peak": band.side_peak,
            "logit_pressure_bound_nats": band.logit_weighted_pressure,
            "amplitude_error": np.sqrt(np.average(array(errors.amplitude[b]) ** 2, weights=errors.pairs[b])),
            "phase_error_rad": np.sqrt(np.average(array(errors.phase[b]) ** 2, weights=errors.with_phase[b])),
            "logit_noise_nats": np.sqrt(np.mean(array(found.logit_noise.by_band)[:, b] ** 2)),
        }
        for side, place in (("w", "pre"), ("a", "post")):
            for x in ("q", "k"):
                ratio = array(found.tails[f"{x}/{place}"].ratio)[:, :, b]
                wanted |= {f"rho_{side}_{x}": ratio.mean(), f"rho_{side}_{x}_most": ratio.max()}
        for probe in ("int8", "int4"):
            wanted |= {
                f"{probe}_noise_nats": np.sqrt(np.mean(array(found.band_cost.noise[probe])[:, b] ** 2)),
                f"{probe}_attention_kl_nats": array(found.band_cost.attention_kl[probe])[:, b].mean(),
                f"{probe}_error_share": array(found.band_cost.error_share[probe])[:, b].mean(),
                f"{probe}_output_kl_nats": None,
            }
        told = row.model_dump()
        for name, value in wanted.items():
            assert told[name] == (None if value is None else pytest.approx(value, rel=1e-6)), name
        left = set(BandRow.model_fields) - set(wanted)
        known = {name for name in left if told[name] is not None} - {"layers", "band"}
        assert known <= {
            "logit_pressure_nats",
            "logit_pressure_error_nats",
            "outliers_q",
            "outliers_k",
            "outlier_magnitude_q",
            "outlier_magnitude_k",
            "error_share",
            "zeroed_share",
        }, known


def test_outliers_and_the_share_of_the_error_are_taken_where_the_file_has_them():
    """Two layers, two bands of two half-paired pairs in eight channels: band 0 is channels 0, 1, 4, 5."""
    plain = planted.diagnosis()
    assert band_table(plain)[0].outliers_k is None or plain.outliers.count
    by_channel = [[0.05, 0.10, 0.15, 0.2, 0.02, 0.03, 0.05, 0.4], [0.5] + [0.0] * 6 + [0.5]]
    outliers = plain.outliers.model_copy(
        update={
            "count": {"q/post": [[1, 0], [2, 3]], "k/post": [[0, 4], [1, 1]]},
            "magnitude": {"q/post": [[2.0, None], [3.0, 5.0]], "k/post": [[None, 7.0], [None, 6.0]]},
            "error_by_channel": {"in force": by_channel},
        }
    )
    one, two = band_table(plain.model_copy(update={"outliers": outliers}))
    assert (one.outliers_q, one.outliers_k, two.outliers_q, two.outliers_k) == (3, 1, 3, 5)
    assert (one.outlier_magnitude_q, one.outlier_magnitude_k, two.outlier_magnitude_k) == (3.0, None, 7.0)
    assert one.error_share == pytest.approx(np.mean([0.05 + 0.10 + 0.02 + 0.03, 0.5]))
    assert two.error_share == pytest.approx(np.mean([0.8, 0.5]))
    turned = band_table(plain.model_copy(update={"outliers": outliers, "pairing": "interleaved"}))[0]
    assert turned.error_share == pytest.approx(np.mean([0.5, 0.5]))  # channels 0 to 3


def test_what_is_rounded_to_zero_is_a_mean_over_pairs_and_a_file_without_their_number_says_so():
    plain = planted.diagnosis()
    counts = {"pairs": [[30, 10], [40, 0]], "with_phase": [[27, 6], [40, 0]]}
    zeroed = plain.pair_error.model_copy(update={"zeroed": [[0.1, 0.4], [0.0, None]]})
    for counted, expected in ((counts, 0.75 * 0.1 + 0.25 * 0.4), ({}, 0.25)):
        found = plain.model_copy(update={"pair_error": zeroed.model_copy(update=counted)})
        assert [row.zeroed_share for row in band_table(found)] == pytest.approx([expected, 0.0])
        said = "all positions weigh alike"
        assert (said in sample(found)) is (not counted)
        assert (said in amplitude_and_phase(found).how_to_read) is (not counted)
        assert [said in row.control for row in found.null_rows("pair_error")] == [False, not counted, not counted]


def test_channels_without_rotation_have_their_noise_and_share_of_the_error():
    plain = grouped().model_copy(update={"groups": [], "head_dim": 10})  # the last two of ten do not turn
    cost = plain.band_cost.model_copy(update={"noise": {"int4": [[1.0, 2.0, 3.0], [3.0, 4.0, 4.0]]}})
    shares = {"in force": [[0.1] * 10, [0.0] * 8 + [0.3, 0.7]]}
    outliers = plain.outliers.model_copy(update={"error_by_channel": shares})
    noise = plain.logit_noise.model_copy(update={"unrotated": [0.3, 0.4]})
    rest = band_table(plain.model_copy(update={"band_cost": cost, "outliers": outliers, "logit_noise": noise}))[-1]
    assert (rest.band, rest.first_pair, rest.rho_a_k) == (None, None, None)
    assert rest.error_share == pytest.approx((0.2 + 1.0) / 2)
    assert rest.logit_noise_nats == pytest.approx(np.sqrt((0.09 + 0.16) / 2))
    assert rest.int4_noise_nats == pytest.approx(np.sqrt((9 + 16) / 2))


def test_the_logits_own_change_is_taken_where_the_file_has_it():
    plain = planted.diagnosis()
    bands = [band.model_copy(update={"logit_change": 0.25 * (b + 1)}) for b, band in enumerate(plain.bands)]
    assert [row.logit_pressure_nats for row in band_table(plain.model_copy(update={"bands": bands}))] == [0.25, 0.5]


def grouped():
    """Layer 0 turns, layer 1 turns otherwise, and the planted cost tells them apart."""
    plain = planted.diagnosis()
    slow = [band.model_copy(update={"interpolation_pressure": 9.0}) for band in plain.bands]
    same = {"window": None, "interpolated": True, "reach": 64, "pairs": plain.pairs, "kernel": plain.kernel}
    groups = [
        LayerGroupDiagnosis(name="one", layers=[0], theta=1e4, bands=plain.bands, **same),
        LayerGroupDiagnosis(name="two", layers=[1], theta=1e6, bands=slow, **same),
    ]
    cost = BandCost(
        noise={"int4": [[1.0, 2.0, None], [3.0, 4.0, None]]},
        channels=[4, 4, 0],
        attention_kl={"int4": [[0.1, 0.2, None], [0.3, 0.4, None]]},
        error_share={"int4": [[0.5, 0.5, None]] * 2},
    )
    return plain.model_copy(update={"groups": groups, "band_cost": cost})


def test_layers_that_turn_otherwise_have_rows_of_their_own():
    rows = band_table(grouped(), planted_prediction.prediction(bands=2))
    assert [(row.layers, row.band) for row in rows] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    assert [row.pressure_rad for row in rows] == [0.5, 4.0, 9.0, 9.0]
    assert [row.rho_a_k for row in rows] == pytest.approx([0.95, 1.35, 1.05, 1.5])
    assert [row.int4_noise_nats for row in rows] == [1.0, 2.0, 3.0, 4.0]
    assert [row.logit_noise_nats for row in rows] == [0.1, 0.3, 0.05, 0.2]
    assert [row.nll_cost_nats for row in rows] == [None] * 4  # a band's cost is of all layers together


def test_a_predictions_cost_joins_the_bands_it_asked_about_and_no_others():
    plain = planted.diagnosis()
    predicted = planted_prediction.prediction(bands=2)
    rows = band_table(plain, predicted)
    assert [row.nll_cost_nats for row in rows] == pytest.approx([c.nll for c in predicted.bands])
    assert [row.nll_cost_low_nats for row in rows] == [c.low for c in predicted.bands]
    assert [row.nll_cost_high_nats for row in rows] == [c.high for c in predicted.bands]
    assert [row.nll_cost_nats for row in band_table(plain, planted_prediction.prediction())] == [None, None]
    assert [row.nll_cost_nats for row in band_table(plain)] == [None, None]


def test_the_csv_and_the_frame_hold_the_same_rows(found):
    rows = band_table(found)
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    frame = table(found)
    assert list(frame) == list(read[0]) == list(BandRow.model_fields)
    for b, row in enumerate(rows):
        for name, value in row.model_dump().items():
            if value is None:
                assert read[b][name] == ""
                assert np.isnan(float(frame[name].astype(float)[b]))
            elif name != "layers":
                assert float(read[b][name]) == pytest.approx(value, rel=1e-5)
                assert frame[name][b] == value
    assert all(titles().values())
    assert all(helps().values())
    shown = order(frame)
    assert shown[:8] == [
        "band",
        "native_wavelength_min_tokens",
        "wavelength_min_tokens",
        "pressure_rad",
        "rho_w_q",
        "rho_w_k",
        "rho_a_q",
        "rho_a_k",
    ]
    assert len(set(shown)) == len(shown)
    within = {"layers", "first_pair", "last_pair", "native_wavelength_max_tokens", "wavelength_max_tokens"}
    assert set(shown) == {name for name in frame if frame[name].notna().any()} - within


def test_spans_stand_as_one_cell_with_three_digits_and_no_powers_of_ten():
    plain = grouped()
    cells = shortened(plain)
    assert cells["band"] == ["0 (0-1)", "1 (2-3)"] * 2
    for near, far in (
        ("native_wavelength_min_tokens", "native_wavelength_max_tokens"),
        ("wavelength_min_tokens", "wavelength_max_tokens"),
    ):
        ends = [(getattr(row, near), getattr(row, far)) for row in band_table(plain)]
        assert cells[near] == [span(*pair) for pair in ends]
    assert [span(6.28318, 14.9), span(19_869.2, 188_496.0), span(1.5e6, 2e6), span(None, 3.0)] == [
        "6.28-14.9",
        "19900-188000",
        "1500000-2000000",
        "none",
    ]
    assert short_titles()["wavelength_min_tokens"] == "wavelength"
    assert order(table(plain))[:2] == ["layers", "band"]  # two kinds of layers


def test_what_does_not_turn_is_called_so_and_has_no_span():
    rest = BandRow(layers="all layers", logit_noise_nats=0.3)
    assert (band_name(rest), span(rest.wavelength_min_tokens, rest.wavelength_max_tokens)) == ("unrotated", "none")


def test_nothing_quantized_leaves_its_columns_empty_and_keeps_the_probes(tiny):
    found = diagnose.run(tiny(), Setting(RopeSpec("yarn", 2.0), QuantSpec(), diagnosis=SPEC), TEXT)
    for row in band_table(found):
        assert row.logit_noise_nats is None
        assert row.amplitude_error is None
        assert row.int4_noise_nats > row.int8_noise_nats > 0


def test_columns_of_errors_say_which_errors_they_are():
    said = helps()
    for name in ("amplitude_error", "phase_error_rad", "zeroed_share"):
        assert "With quantized weights the errors include those of earlier layers" in said[name]
        assert "keys that the cache still holds exactly count too" in said[name]
    assert (
        "it includes the errors of earlier layers; otherwise each layer is measured alone" in said["logit_noise_nats"]
    )
    for name in ("rho_w_q", "rho_a_k", "outliers_q", "outliers_k", "int4_noise_nats", "int8_attention_kl_nats"):
        assert "of the unquantized model" in said[name]


def test_the_native_wavelength_is_plain_ropes_and_says_so_on_a_checkpoint_with_its_own_yarn(tiny):
    """2 pi theta^(2i/r) by hand; what is in force is four times as slow at the slow end."""
    own = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
    model = tiny(rope_parameters=own, max_position_embeddings=256)
    found = diagnose.run(model, Setting(RopeSpec(), QuantSpec(k=QuantizerSpec(4)), diagnosis=SPEC), TEXT)
    first, *_, last = band_table(found)
    plain = 2 * np.pi * 10_000.0 ** (np.arange(8) / 8)
    assert first.native_wavelength_min_tokens == pytest.approx(plain[0])
    assert last.native_wavelength_max_tokens == pytest.approx(plain[-1])
    assert last.wavelength_max_tokens == pytest.approx(4 * plain[-1])
    said = helps()
    for end in ("min", "max"):
        assert said[f"native_wavelength_{end}_tokens"].endswith("without one that the checkpoint ships with.")
        assert "as the checkpoint ships" in said[f"wavelength_{end}_tokens"]
