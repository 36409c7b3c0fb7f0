"""Claims of the diagnosis' titles, captions and samples that no other file tests: each true in one, false in another.

Pressure, aliasing, tails, ranges, pairs, hidden states and outliers have files of their own beside this one.
"""

import pytest

from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.bands.result import BandCost
from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise.figure_split import split
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as rules
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.figures.picture import OLDER, counted_on
from tests.helpers import planted
from tests.helpers.grouped import two_groups

D = planted.diagnosis()


def test_a_sample_says_what_its_rows_are_and_only_what_there_is():
    whole = Sample(
        tokens=4096,
        windows=2,
        rows=48,
        keys=8,
        seed=3,
        still_exact=128,
        compares="of each layer",
        error="the band is a 95 % bootstrap",
    )
    assert whole.sentence == (
        "Counted on 4,096 tokens, without the newest 128, whose keys the cache still holds exactly, 2 windows, 48 "
        "sampled query rows, 8 sampled keys a row; errors of each layer; the band is a 95 % bootstrap (seed 3)."
    )
    hidden = Sample(tokens=64, rows=63, rows_of="rows of hidden states")
    assert hidden.sentence == "Counted on 64 tokens, 63 sampled rows of hidden states."
    assert Sample(tokens=64).sentence == "Counted on 64 tokens."


def test_an_error_and_a_seed_are_said_only_under_a_figure_that_shows_an_estimate():
    sample = Sample(tokens=64, seed=3, error="the null was drawn once")
    assert counted_on(sample) == "Counted on 64 tokens; the null was drawn once (seed 3)."
    assert counted_on(sample, estimates=False) == "Counted on 64 tokens."
    assert counted_on(None) == counted_on(None, estimates=False) == OLDER


def test_outliers_say_a_draw_only_where_one_is_drawn():
    drawn = D.outliers.model_copy(update={"sample": Sample(tokens=64, seed=0, error="the null was drawn 2 times")})
    d = D.model_copy(update={"outliers": drawn})
    assert rules.shift(d, "k/post").sample == "Counted on 64 tokens; the null was drawn 2 times (seed 0)."
    for picture in (
        outliers.layers(d, "k/post"),
        outliers.channel_map(d, "k/post", 0, 0),
        rules.counts(d, "k/post"),
        rules.error_share(d),
        rules.error_by_channel(d),
    ):
        assert picture.sample == "Counted on 64 tokens."


@pytest.mark.parametrize(
    ("pairing", "said"),
    [("half", "every band appears twice, as channels i and i + r/2"), ("interleaved", "so every band is one stretch")],
)
def test_how_often_a_band_appears_is_said_as_the_channels_are_paired(pairing, said):
    d = planted.diagnosis(pairing=pairing)
    assert said in outliers.channel_map(d, "k/post", 0, 0).how_to_read
    edges = outliers.channel_map(d, "k/post", 0, 0).figure.layout.shapes
    assert len(edges) == {"half": 3, "interleaved": 1}[pairing]


def test_an_overview_names_the_layer_that_peaks():
    assert outliers.layers(D, "k/post").title.startswith("K after RoPE peaks at 3: layer 0, KV head 1")
    quiet, loud = [[[1.0, 2.0]] * 8] * 2, [[[1.0, 7.0]] * 8, [[1.0, 2.0]] * 8]
    other = D.model_copy(update={"outliers": D.outliers.model_copy(update={"maps": {"k/post": [quiet, loud]}})})
    assert outliers.layers(other, "k/post").title.startswith("K after RoPE peaks at 7: layer 1, KV head 0")


def cost(int4, *draws):
    return BandCost(
        noise={"int4": [[*int4, None]] * 2},
        attention_kl={"int4": [[0.1, 0.1, None]] * 2},
        error_share={"int4": [[0.5, 0.5, None]] * 2},
        channels=[4, 4, 0],
        null={"int4": [[list(draw)] * 2 for draw in draws]},
        sample=Sample(tokens=64, rows=2),
    )


@pytest.mark.parametrize(
    ("found", "title"),
    [
        (
            cost((1.0, 3.0), *[(1.0, 1.5), (1.5, 1.0)] * 10),
            "Band 1 alone makes the most logit noise: 1.34 times the RMS of all bands, 1.18 by chance",
        ),
        (
            cost((3.0, 1.0), *[(1.0, 1.5)] * 19),
            "Band 0 alone makes the most logit noise: 1.34 times the RMS of all bands, 1.18 by chance",
        ),
        (cost((1.0, 3.0), *[(1.0, 1.5)] * 18, (1.0, 9.0)), bands.EVEN),  # one of 19 draws is as uneven
        (
            cost((1.0, 3.0), *[(1.0, 1.5)] * 38, (1.0, 9.0)),
            "Band 1 alone makes the most logit noise: 1.34 times the RMS of all bands, 1.18 by chance",
        ),  # one of 39
        (
            cost((1.0, 3.0), (1.0, 1.5)),
            f"{bands.UNKNOWN} Most in band 1, 1.34 times the RMS of all bands, 1.18 by chance: "
            "1 draw of the null cannot decide",
        ),
        (cost((1.0, 3.0)), bands.UNKNOWN),  # no null, so nothing is claimed
    ],
)
def test_a_band_is_called_loud_only_where_one_draw_of_the_null_in_twenty_is_as_uneven(found, title):
    assert bands.alone(D.model_copy(update={"band_cost": found})).title == title


def grouped(levels, window):
    return noise.by_group(two_groups(D, dict(zip(("first", "second"), levels, strict=True)), (None, window)))


def test_the_loudest_group_is_named_and_windows_are_spoken_of_where_there_is_one():
    assert grouped((0.4, 0.2), None).title == "Which layers make the noise? Most: first"
    assert grouped((0.2, 0.4), None).title == "Which layers make the noise? Most: second"
    assert "window" not in grouped((0.4, 0.2), None).how_to_read
    assert "No query of a layer with a window meets noise from further back" in grouped((0.4, 0.2), 16).how_to_read


def test_where_there_is_no_noise_no_band_layer_or_group_is_named():
    none = D.logit_noise.model_copy(
        update={"by_band": [[0.0, 0.0]] * 2, "by_layer": [[0.0, 0.0]] * 2, "by_band_position": [[0.1, 0.0], [0.2, 0.0]]}
    )
    quiet = D.model_copy(update={"logit_noise": none})
    assert noise.by_layer_and_band(quiet).title == "Which band makes the noise? There is none"
    assert grouped((0.0, 0.0), None).title == "Which layers make the noise? There is none"
    assert split(quiet).title.endswith("Quantized: none at the farthest")  # what there is stands in the first half
    assert split(quiet, "layer").title.endswith("Quantized: none at the farthest")
    assert split(D).title.endswith("Quantized: at the farthest, most from band 1")
    assert split(D, "layer").title.endswith(("most from layer 0", "most from layer 1"))  # both alike
    assert noise.by_layer_and_band(D).title.endswith("Most in layer 0, band 1")


def test_which_error_the_noise_is_stands_in_the_caption():
    assert "sampled query rows (errors local)" in noise.by_position(D).how_to_read
    through = D.logit_noise.model_copy(update={"kind": "propagated"})
    picture = noise.by_position(D.model_copy(update={"logit_noise": through}))
    assert "sampled query rows (errors propagated)" in picture.how_to_read


def test_an_older_map_of_hidden_states_says_how_it_averaged_and_claims_no_null():
    older = similarity.hidden_states(D)
    assert "This file averages decibels" in older.how_to_read
    assert "null" not in older.how_to_read
    assert "left out" not in older.how_to_read
    mended = D.hidden.model_copy(update={"layer_sqnr_db": [30.0, 20.0]})
    now = similarity.hidden_states(D.model_copy(update={"hidden": mended}))
    assert "The right map is the null" in now.how_to_read
    assert "averages decibels" not in now.how_to_read
