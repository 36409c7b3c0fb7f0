"""The small figures of the overview against their numbers by hand."""

import math
from statistics import fmean

import pytest
from scipy import stats

from qroar_core.diagnostics.logit_noise.result import NoiseNull
from qroar_core.evaluation.result import Evaluation, Row
from qroar_core.figures import overview
from tests.helpers import planted, planted_comparison
from tests.helpers.planted_nulls import with_nulls

REFERENCE, QUANTIZED = [2.0, 2.4, 1.8, 2.1], [2.5, 2.8, 2.4, 2.5]


def by_t(differences):
    """Mean and the ends of a 95 % interval."""
    return (
        fmean(differences),
        *stats.t.interval(0.95, len(differences) - 1, fmean(differences), stats.sem(differences)),
    )


def evaluated(**window_nll):
    """An evaluation of 1,024 tokens with these window means: model_scales -> NLL."""
    means = {name.replace("_", "/", 1): values for name, values in window_nll.items()}
    rows = [
        Row(length=1024, model=key.split("/")[0], scales=key.split("/")[1], nll=fmean(v), nll_se=0.1, ppl=1.0, tokens=9)
        for key, v in means.items()
    ]
    kept = {f"1024/{key}": v for key, v in means.items()}
    return Evaluation(rows=rows, gain=None, attribution=None, gap_recovered=None, sentence="", text="", window_nll=kept)


def test_what_is_lost_is_the_paired_difference_and_both_perplexities():
    shown = overview.lost(evaluated(reference_identity=REFERENCE, quantized_identity=QUANTIZED))
    mean, low, high = by_t([b - a for a, b in zip(REFERENCE, QUANTIZED, strict=True)])
    (line,) = shown.table.itertuples(index=False)
    assert line.condition == "1,024 tokens"
    assert line[1:] == pytest.approx((mean, low, high))
    ppl = math.exp(fmean(REFERENCE)), math.exp(fmean(QUANTIZED))
    assert shown.title == f"{mean:+.4f} nats a token at 1,024 tokens: perplexity {ppl[0]:.3f} → {ppl[1]:.3f}"


def test_what_is_lost_beside_a_tie_is_counted_without_it():
    tied = {"reference_identity": [9.0] * 4, "quantized_identity": [9.5] * 4}
    shown = overview.lost(evaluated(**tied, reference_untied=REFERENCE, quantized_untied=QUANTIZED))
    assert shown.table["nats_per_token"].tolist() == pytest.approx([0.475])


def test_a_loss_that_may_be_zero_is_not_said_to_be_one():
    noisy = [2.4, 1.9, 2.3, 1.8]
    shown = overview.lost(evaluated(reference_identity=REFERENCE, quantized_identity=noisy))
    assert shown.title.startswith("Nothing significant at 1,024 tokens")
    assert overview.lost(evaluated(reference_identity=REFERENCE)) is None


def test_bands_and_layers_are_quadratic_means_beside_their_nulls():
    plain = with_nulls()
    noise = plain.logit_noise
    nulls = {
        "null_by_band": [
            [None if v is None else v + 0.1 * (i + b) for b, v in enumerate(row)] for i, row in enumerate(noise.by_band)
        ],
        "null_by_layer": [[0.5 * v + 0.01 * i for v in row] for i, row in enumerate(noise.by_layer)],
    }
    blind = [0.01 * (i + 1) for i in range(len(noise.rms))]
    nulls["null"] = NoiseNull(rms=blind, rms_by_distance=noise.rms_by_distance, noise_std=blind)
    noise = noise.model_copy(update=nulls)
    found = plain.model_copy(update={"logit_noise": noise})
    bands, layers = overview.by_band(found), overview.by_layer(found)

    def rms(values):
        known = [v for v in values if v is not None]
        return math.sqrt(sum(v * v for v in known) / len(known))

    assert bands.table["rms"].tolist() == pytest.approx([rms(column) for column in zip(*noise.by_band, strict=True)])
    assert bands.table["null_rms"].tolist() == pytest.approx(
        [rms(column) for column in zip(*noise.null_by_band, strict=True)]
    )
    assert layers.table["rms"].tolist() == pytest.approx([rms(row) for row in noise.by_layer])
    assert layers.table["null_rms"].tolist() == pytest.approx([rms(row) for row in noise.null_by_layer])
    assert layers.table["layer"].tolist() == [str(found.layer_number(i)) for i in range(len(noise.by_layer))]
    positions = overview.by_position(found)
    assert positions.table["quantized"].tolist() == pytest.approx(noise.rms)
    assert positions.table[overview.NULL].tolist() == pytest.approx(blind)


def test_nothing_quantized_places_no_error():
    none = planted.diagnosis(quantized=False)
    assert [draw(none) for draw in (overview.by_band, overview.by_layer, overview.by_position)] == [None] * 3


def test_remedies_are_the_best_and_always_the_best_that_is_free():
    made = planted_comparison.comparison()
    shown = overview.recovered(made)
    gains = {row.name: (row.gain, row.free) for row in made.rows if row.gain is not None}
    best = sorted(gains, key=lambda name: -gains[name][0])
    free = next(name for name in best if gains[name][1])
    assert free not in best[: overview.MOST]  # what makes this a test
    assert shown.table["condition"].tolist() == [*best[: overview.MOST - 1], free]
    assert shown.table["nats_per_token"].tolist() == pytest.approx([gains[n][0] for n in shown.table["condition"]])
    assert shown.title.startswith("KVQuant (K per channel before RoPE) recovers most: ")


def test_scales_alone_are_shown_until_remedies_are_compared():
    shown = overview.recovered_by_scales(
        evaluated(
            reference_identity=REFERENCE,
            quantized_identity=QUANTIZED,
            quantized_tuned=[2.3, 2.6, 2.1, 2.35],
            quantized_rotation=[2.2, 2.55, 2.2, 2.2],
        )
    )
    assert shown.table["condition"].tolist() == ["quantized, tuned", "quantized, Hadamard rotation"]
    assert shown.table["nats_per_token"].tolist() == pytest.approx([0.2125, 0.2625])
    assert overview.recovered_by_scales(evaluated(reference_identity=REFERENCE, quantized_identity=QUANTIZED)) is None
