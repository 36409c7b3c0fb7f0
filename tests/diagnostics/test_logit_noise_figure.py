"""Figures of the logit noise: nulls, channels without rotation, and captions true of one result and not of another."""

from __future__ import annotations

import math

import pytest

from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise import figure_words
from qroar_core.diagnostics.logit_noise.figure import NULL
from qroar_core.diagnostics.logit_noise.figure_scores import scores
from qroar_core.diagnostics.logit_noise.figure_split import split
from qroar_core.diagnostics.logit_noise.result import distance_growth_error
from qroar_core.figures.nulls import null_words
from qroar_core.figures.picture import GREY, OLDER
from tests.diagnostics.noise_with_nulls import BLIND, OLD, D, mended
from tests.helpers import planted
from tests.helpers.grouped import two_groups

TURNS = mended(
    unrotated=[],
    unrotated_position=[],
    unrotated_distance=[],
    null_unrotated=[],
    null=BLIND.model_copy(update={"unrotated_position": [], "unrotated_distance": []}),
)


def trace(picture, name):
    (found,) = [t for t in picture.figure.data if t.name == name]
    return list(found.y)


def test_position_and_distance_draw_their_null_and_say_what_it_is():
    picture = noise.by_position(D)
    assert trace(picture, NULL) == [0.15, 0.16]
    assert picture.table["null_rms"].tolist() == [0.15, 0.16]
    # twice as much in the later of two rows, where queries alone would make it 1.07 times
    assert picture.title == (
        "Does the noise on the logits grow with position? 2.00 × from the earlier rows to the "
        "later, 1.07 × for random errors"
    )
    assert "±" not in picture.how_to_read  # two rows give no standard error
    assert "The KL of this file, from an older version, has no null" in picture.how_to_read
    newer = noise.by_position(mended(null=BLIND.model_copy(update={"attention_kl": [0.01, 0.02]})))
    assert [list(t.y) for t in newer.figure.data if t.name == NULL] == [[0.15, 0.16], [0.01, 0.02]]
    assert {t.line.color for t in newer.figure.data if t.name == NULL} == {GREY}
    assert newer.table["null_attention_kl"].tolist() == [0.01, 0.02]
    assert "has no null" not in newer.how_to_read
    assert "an approximation, good for small errors" in newer.how_to_read
    kl = mended(null=BLIND.model_copy(update={"attention_kl": [0.01, 0.02]}), attention_kl=[0.02, 0.06])
    row = kl.logit_noise.null_rows()[-1]
    assert (row.measured, row.null) == (pytest.approx(0.04), pytest.approx(0.015))
    assert not any("KL" in row.quantity for row in D.logit_noise.null_rows())
    four = mended(
        position=[1, 2, 4, 8],
        attention_kl=[0.0] * 4,
        rms=[0.1, 0.2, 0.4, 0.4],
        null=BLIND.model_copy(update={"rms": [0.2] * 4}),
    )
    grown = noise.by_position(four)
    assert grown.title.endswith("2.5 ± 0.8 × from the earlier rows to the later, 1.00 × for random errors")
    assert "± is the standard error over rows" in grown.how_to_read
    late = mended(rms=[0.0, 0.4], null=BLIND)
    assert noise.by_position(late).title.endswith("with position? None at the earlier rows")
    assert noise.by_position(mended(rms=[0.0, 0.0], null=BLIND)).title.endswith("with position? There is none")
    far = noise.by_distance(mended(rms_by_distance=[0.2, 0.5], rms_by_distance_error=[0.01, 0.03], null=BLIND))
    assert far.title == (
        "Are far keys noisier than near ones? 2.5 ± 0.2 × from the nearer octaves to the farther, "
        "1.00 × for random errors"
    )
    assert list(far.figure.data[0].error_y.array) == [0.01, 0.03]
    assert "Bars and ± are standard errors over the sampled rows." in far.how_to_read
    assert list(far.table["standard_error"]) == [0.01, 0.03]
    far = noise.by_distance(D)
    assert "Bars" not in far.how_to_read
    assert trace(far, NULL) == [0.2, 0.2]
    assert "The dotted line is the null" in far.how_to_read
    assert far.sample == "Counted on 64 tokens, 2 sampled query rows."


def test_tuned_noise_stands_beside_the_null_of_the_quantized():
    tuned = mended(rms=[0.05, 0.1]).model_copy(update={"scales_mode": "symmetric"})
    picture = noise.by_position(D, tuned)
    assert trace(picture, NULL) == [0.15, 0.16]
    assert picture.table.query("model == 'quantized'")["null_rms"].tolist() == [0.15, 0.16]
    assert picture.table.query("model == 'tuned'")["null_rms"].isna().all()
    assert picture.title.endswith("for random errors. Tuned scales change its RMS by -50%")


def test_an_older_file_has_no_null_and_says_that_it_is_old():
    for draw in (noise.by_position, noise.by_distance, noise.by_layer_and_band, split):
        picture = draw(OLD)
        assert picture.sample == OLDER
        assert "null" not in picture.how_to_read
        assert NULL not in picture.figure.to_json()
    assert scores(OLD) is None
    assert scores(planted.diagnosis(quantized=False)) is None
    assert OLD.logit_noise.null_rows() == []


def cells(picture, panel, width):
    """A panel's values; panels of `width` columns stand apart by one empty column."""
    return [list(row)[panel * (width + 1) : panel * (width + 1) + width] for row in picture.figure.data[0].z]


def test_channels_without_rotation_are_a_column_of_the_map():
    picture = noise.by_layer_and_band(D)
    assert cells(picture, 0, 3) == [[0.1, 0.3, 0.2], [0.05, 0.2, 0.7]]
    assert cells(picture, 1, 3) == [[0.1, 0.1, 0.05], [0.1, None, 0.06]]
    assert picture.title == (
        "Which band makes the noise? Most in layer 1, channels without rotation, beside what its share of channels "
        "would make (11.67 times its null)"
    )
    assert picture.table["band"].tolist() == ["0", "1", "no rotation"] * 2
    assert picture.table["null_rms"].tolist()[:3] == [0.1, 0.1, 0.05]
    assert "The column no rotation holds" in picture.how_to_read
    assert "need not add up" in picture.how_to_read
    turning = noise.by_layer_and_band(TURNS)
    assert cells(turning, 0, 2) == [[0.1, 0.3], [0.05, 0.2]]
    assert turning.title == (
        "Which band makes the noise? Most in layer 0, band 1, beside what its share of channels would make "
        "(3.00 times its null)"
    )
    assert "no rotation" not in turning.how_to_read
    quiet = noise.by_layer_and_band(mended(unrotated=[0.2, 0.1]))
    assert "Most in layer 0, channels without rotation, beside" in quiet.title  # 4 times its null, band 1 only 3


def test_and_a_row_of_the_maps_by_position_and_distance():
    picture = split(D)
    panels = [cells(picture, i, 2) for i in range(4)]
    assert panels[0] == [[0.05, 0.1], [0.08, 0.17], [0.3, 0.6]]
    assert panels[1] == [[0.1, 0.1], [0.11, 0.12], [0.01, 0.02]]
    assert panels[2] == [[0.04, 0.2], [0.09, None], [0.5, 0.5]]
    assert panels[3] == [[0.1, 0.1], [0.12, 0.13], [0.03, 0.04]]
    assert picture.title.endswith(
        "at the farthest, most from channels without rotation, beside what its share of channels would make "
        "(30.00 times its null)"
    )
    assert picture.table.query("measure == 'null by distance'")["nats"].tolist() == [0.1, 0.1, 0.12, 0.13, 0.03, 0.04]
    assert list(dict.fromkeys(picture.table["band"])) == ["0", "1", "no rotation"]
    assert len(cells(split(TURNS), 0, 2)) == 2
    assert split(TURNS).title.endswith(
        "at the farthest, most from band 1, beside what its share of channels would make (1.42 times its null)"
    )
    assert "no rotation" not in split(TURNS).how_to_read


def test_a_wide_band_is_not_named_for_its_width_and_none_where_none_is_above_its_null():
    """Channels without rotation make most and as much as so many would; band 0 makes little, but twice its share."""
    wide = noise.by_layer_and_band(
        mended(
            by_band=[[0.2, 0.1], [0.1, 0.1]],
            null_by_band=[[0.1, 0.1], [0.1, 0.1]],
            unrotated=[0.9, 0.9],
            null_unrotated=[0.9, 0.9],
        )
    )
    assert "Most in layer 0, band 0, beside" in wide.title
    assert "(2.00 times its null)" in wide.title
    assert "furthest above its null in proportion" in wide.how_to_read
    even = {"by_band": [[0.1, 0.1]] * 2, "null_by_band": [[0.1, 0.1]] * 2, "unrotated": [0.9] * 2}
    found = noise.by_layer_and_band(mended(**even, null_unrotated=[0.9] * 2))
    assert found.title == "Which band makes the noise? None makes more than its share of channels would"


def test_a_cell_inside_its_nulls_spread_is_not_named():
    cells = [("a", 1.3, 1.0, 0.2), ("b", 1.1, 1.0, 0.2)]  # 1.96 standard deviations of one of two cells: 1.39
    assert figure_words.loudest(cells) == "None makes more than its share of channels would"
    assert figure_words.loudest([("a", 1.5, 1.0, 0.2), cells[1]]).startswith("Most in a")
    assert figure_words.loudest([("a", 1.0, None, None), ("b", 2.0, None, None)]) == "Most in b"
    null = D.logit_noise.null.model_copy(update={"by_band_position": [[0.1, 0.1]], "by_band_chance": [0.002]})
    spreads = figure_words.band_spreads(D.logit_noise.model_copy(update={"null": null}), 4)
    assert spreads == [pytest.approx(2 * 0.002 / 0.02)]  # d rms = d square / (2 rms); a quarter of the sample: double


def test_far_keys_without_noise_are_said_to_have_none():
    quiet = noise.by_distance(mended(rms_by_distance=[0.0] * len(D.logit_noise.rms_by_distance)))
    assert quiet.title == "Are far keys noisier than near ones? There is none"


def test_layers_without_rope_are_said_to_be_left_out_where_there_are_any():
    assert "Layers without RoPE are left out" not in split(D).how_to_read
    some = mended(by_band=[[0.1, 0.3], [None, None]])
    assert "Layers without RoPE are left out" in split(some).how_to_read


def test_layers_by_position_beside_their_null():
    picture = split(D, "layer")
    assert cells(picture, 1, 2) == [[0.14, 0.15], [0.16, 0.17]]
    assert cells(picture, 2, 2) == [[0.0, 0.02], [0.02, 0.04]]
    assert "The KL has none" in picture.how_to_read
    newer = split(mended(null_kl_by_layer=[[0.01, 0.02], [0.03, 0.05]]), "layer")
    assert cells(newer, 3, 2) == [[0.01, 0.02], [0.03, 0.05]]
    assert "The KL has none" not in newer.how_to_read


def test_groups_have_each_their_null():
    levels = {"full": 0.4, "window": 0.2}
    nulls = [BLIND.model_copy(update={"rms": [level / 2, level / 2]}) for level in levels.values()]
    picture = noise.by_group(two_groups(D, levels, nulls=nulls))
    assert (trace(picture, "null: full"), trace(picture, "null: window")) == ([0.2, 0.2], [0.1, 0.1])
    assert picture.table["null_rms"].tolist() == [0.2, 0.2, 0.1, 0.1]


def test_scores_name_the_noise_as_a_share_of_the_logits_spread():
    picture = scores(D)
    assert picture.title == (
        "How large is the noise beside the attention scores? 7.5% of their spread at the last "
        "position, 3.0% for random errors"
    )
    assert trace(picture, "reference's logits") == [2.0, 4.0]
    assert (trace(picture, "noise"), trace(picture, NULL)) == ([0.1, 0.3], [0.1, 0.12])
    assert [list(row) for row in picture.figure.data[3].z] == [[0.1, 0.05], [0.25, 0.25]]
    table = picture.table
    assert table["layer"].tolist() == ["all"] * 2 + ["0"] * 2 + ["1"] * 2
    assert table["noise_over_logits"].tolist() == pytest.approx([0.05, 0.075, 0.1, 0.05, 0.25, 0.25])
    # as test_logit_noise.py and test_diagnose_noise.py measure it: the root of a mean variance, no mean of deviations
    assert "(the root of the variance's mean over heads and layers)" in picture.how_to_read
    louder = scores(mended(noise_std=[0.1, 1.0]))
    assert "25.0% of their spread" in louder.title


def test_a_null_that_drew_a_querys_error_anew_for_each_key_says_that_it_is_older_everywhere():
    kl = {"null_kl_by_layer": [[0.01, 0.02], [0.03, 0.05]]}

    def said(one_error: bool) -> list[bool]:
        blind = BLIND.model_copy(update={"attention_kl": [0.01, 0.02], "one_error_a_query": one_error})
        d = mended(null=blind, **kl)
        groups = two_groups(d, {"full": 0.4, "window": 0.2}, nulls=[blind, blind])
        pictures = (noise.by_position(d), noise.by_group(groups), scores(d), split(d, "layer"))
        texts = [p.how_to_read for p in pictures] + [r.control for r in d.logit_noise.null_rows()[-2:]]
        return ["from before 2026-11-29" in text for text in texts]

    assert said(False) == [True] * 6
    assert said(True) == [False] * 6


def test_null_rows_hold_measured_and_null():
    rows = D.logit_noise.null_rows()
    assert [(r.measured, r.null) for r in rows] == [
        (pytest.approx(2.0), pytest.approx(0.16 / 0.15)),
        (pytest.approx(4.0), pytest.approx(1.0)),
        # bands 0 and 1: root mean squares over two rows, the larger over the mean of both
        (pytest.approx(2 * 0.13285 / (0.13285 + 0.07906), rel=1e-3), pytest.approx(2 * 0.11511 / 0.21511, rel=1e-3)),
        (pytest.approx(0.075), pytest.approx(0.03)),
    ]


def test_far_against_near_is_shown_as_finely_as_the_errors_of_the_octaves():
    """5.86 of 3 over 0.512: relative errors of 1 / 4 and 1 / 25 are 1.5 in all."""
    noise = D.logit_noise.model_copy(
        update={"distance": [0, 1], "rms_by_distance": [0.512, 3.0], "rms_by_distance_error": [0.02048, 0.75]}
    )
    assert distance_growth_error(noise.rms_by_distance, noise.rms_by_distance_error) == pytest.approx(
        3 / 0.512 * math.hypot(0.25, 0.04)
    )
    assert figure_words.further(noise).startswith(" 5.9 ± 1.5 × from the nearer octaves to the farther, ")
    row = next(r for r in noise.null_rows() if "far half" in r.quantity)
    assert null_words(row)["measured"] == "5.9"
    assert distance_growth_error(noise.rms_by_distance, []) is None
    # an octave that a cache holds exactly has no noise, and no error is known of it
    last = distance_growth_error([0.512, 0.512, 3.0, 1.0], [0.02048, 0.02048, 0.75, None])  # one row alone
    assert last == pytest.approx(math.sqrt((9 + 1) / 2) / 0.512 * math.hypot(0.25, 0.04))
    exact = ([0.0, 0.512, 3.0, 3.0], [None, 0.02048, 0.75, 0.75])
    assert distance_growth_error(*exact) == pytest.approx(math.sqrt(2) * 3 / 0.512 * math.hypot(0.25, 0.04))
    assert distance_growth_error(noise.rms_by_distance, [0.02, None]) is None
