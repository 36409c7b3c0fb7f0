"""What is said of quantized pairs and lengths: each sentence where it is true and where it is not."""

import pytest
import torch

from qroar_core.diagnostics.anisotropy.figure import by_angle
from qroar_core.diagnostics.anisotropy.result import (
    BLIND_NOISE,
    OTHER_LAYER,
    SAME_VECTOR,
    SCALED,
    SWAPPED,
    Anisotropy,
)
from qroar_core.diagnostics.pair_error.figure import amplitude_and_phase
from qroar_core.diagnostics.pair_error.result import PairErrors
from qroar_core.diagnostics.rounding.figure import lengths
from qroar_core.diagnostics.rounding.measure import RoundingMeter
from qroar_core.diagnostics.rounding.result import Roundings
from qroar_core.diagnostics.sample import LOCAL, PROPAGATED
from qroar_core.figures.picture import GREY, OLDER
from tests.helpers import planted

D = planted.diagnosis()


def seen_with(**changed):
    return D.model_copy(update=changed)


def test_the_angle_is_said_to_matter_only_where_it_is_above_the_null_by_two_standard_errors():
    def titled(*ratios, null=(1.0, 1.2)):
        noise = D.anisotropy.null.model_copy(update={"ratio": [list(null)]})
        changed = {"ratio": [list(ratios)], "null": noise}
        return by_angle(seen_with(anisotropy=D.anisotropy.model_copy(update=changed))).title

    # differences 0.1 and 0.14: mean 0.12, standard error 0.04 / sqrt 2 / sqrt 2 = 0.02
    assert titled(1.1, 1.34).endswith("Yes: worst over best 1.22, null 1.10, difference 0.12 ± 0.02")
    # 2.0 and -0.1: as far above the null on average as anything, but not twice their standard error of 1.05
    assert titled(3.0, 1.1).endswith("Not more than by chance: worst over best 2.05, null 1.10, difference 1.0 ± 1.0")
    assert "Not more than by chance" in titled(0.9, 1.1)
    assert "more than 2 standard errors above 0; ± is one standard error" in by_angle(D).how_to_read
    assert titled(3.0, None).endswith("Too few layers and bands to decide: worst over best 3.00, null 1.10")
    assert titled(None, None).endswith("Too few pairs to decide")
    assert "more than 2 standard errors" in by_angle(D).how_to_read


def test_it_is_said_whose_errors_the_null_takes():
    def said(control, heads=2):
        null = D.anisotropy.null.model_copy(update={"control": control})
        one = {"anisotropy": D.anisotropy.model_copy(update={"null": null}), "n_kv_heads": heads}
        return by_angle(seen_with(**one)).how_to_read

    assert "in another KV head" in said(SWAPPED)
    assert "another layer" in said(OTHER_LAYER, 1)
    for text in (said(SAME_VECTOR, 1), said(SWAPPED, 1)):  # the latter of a file from before other layers were taken
        assert "in the same vector" in text
        assert "another KV head" not in text
    scaled, older = "scaled to the pair's own mean", "does not keep each pair's own mean error"
    for control, says in (
        (SWAPPED + SCALED, (True, False)),
        (SWAPPED, (False, True)),
        (BLIND_NOISE, (False, False)),
    ):
        text = said(control)
        assert (scaled in text, older in text) == says
    assert "in another KV head" in said(SWAPPED + SCALED)


def test_the_largest_ratio_is_said_beside_the_null_of_its_own_layer_and_band():
    assert by_angle(D).how_to_read.endswith("largest in layer 0, band 0: 3.00, where the null is 1.05.")
    other = D.anisotropy.model_copy(update={"ratio": [[1.0, 1.5], [None, 4.0]]})
    assert by_angle(seen_with(anisotropy=other)).how_to_read.endswith("largest in layer 1, band 1: 4.00.")


def test_a_null_of_independent_noise_is_called_one():
    """Files from before errors of other pairs were the null."""
    said = by_angle(D)
    assert "another pair" in said.how_to_read
    older = D.anisotropy.null.model_copy(update={"control": BLIND_NOISE, "typical": []})
    drawn = by_angle(seen_with(anisotropy=D.anisotropy.model_copy(update={"null": older})))
    assert "another pair" not in drawn.how_to_read
    assert "drawn anew" in drawn.how_to_read
    assert {t.name for t in drawn.figure.data[2:]} == {"null: noise that does not depend on the angle"}


def test_what_errors_are_divided_by_is_said_and_is_on_the_axis():
    by_step = by_angle(D)
    assert "divided by the squared step" in by_step.how_to_read
    assert by_step.figure.layout.yaxis.title.text == "squared error of a pair over its squared step"
    by_error = by_angle(seen_with(anisotropy=D.anisotropy.model_copy(update={"over": "error"})))
    assert "divided by the squared step" not in by_error.how_to_read
    assert "which have no step on K, also where a cache rounds K" in by_error.how_to_read
    assert "mean squared error" in by_error.figure.layout.yaxis.title.text
    assert by_step.table.loc[1, ["error", "null"]].tolist() == [3.0, 0.16]


def test_an_older_anisotropy_says_so_and_makes_no_claim_of_steps():
    older = Anisotropy(angle=[0.0, 0.7], error=[[1.0, 3.0]], ratio=[[3.0]])
    picture = by_angle(seen_with(anisotropy=older))
    assert picture.sample == OLDER
    assert picture.title.endswith("up to 3.0")
    assert "step" not in picture.how_to_read + picture.figure.layout.yaxis.title.text
    assert "null" not in picture.how_to_read
    assert picture.table["null"].isna().all()
    assert older.null_rows() == []


def test_pairs_rounded_to_zero_are_said_where_there_are_any():
    picture = amplitude_and_phase(D)
    assert "They are 10.00% of all pairs, most in band 1 (20.00%)." in picture.how_to_read
    assert picture.table["zeroed_share"].tolist() == [0.0, 0.0, 0.1, 0.3]
    none = {"zeroed": [[0.0, 0.0]] * 2, "zeroed_share": 0.0}
    clean = amplitude_and_phase(seen_with(pair_error=D.pair_error.model_copy(update=none)))
    assert "No pair is rounded to zero." in clean.how_to_read
    assert [t.text[0] for t in clean.figure.data[1:3]] == ["0", "1"]
    assert picture.sample == "Counted on 64 tokens; the null is the mean of 2 draws (seed 0)."


def test_the_null_is_the_dotted_grey_line_and_the_diagonal_is_none():
    picture = amplitude_and_phase(D)
    null = D.pair_error.null
    (dotted,) = [t for t in picture.figure.data if t.line.dash == "dot"]
    assert dotted.name == "null: the same errors at a random angle"
    assert dotted.line.color == GREY
    for shown, rows in ((dotted.x, null.phase), (dotted.y, null.amplitude)):
        assert list(shown) == pytest.approx([(sum(v * v for v in row) / len(row)) ** 0.5 for row in rows])
    assert picture.figure.data[0].name == "length error as large as angle error in rad"
    assert list(picture.figure.data[0].x) == list(picture.figure.data[0].y)
    older = D.pair_error.model_copy(update={"null": None})
    without = amplitude_and_phase(seen_with(pair_error=older))
    assert not [t for t in without.figure.data if t.line.dash == "dot"]
    assert "null" not in without.how_to_read


def test_older_pair_errors_say_whose_mean_the_share_is():
    older = PairErrors(amplitude=[[0.1, 0.1]], phase=[[0.2, 0.2]], length_share=[[0.25, 0.25]])
    picture = amplitude_and_phase(seen_with(pair_error=older))
    assert picture.title.endswith("25% of the error energy is length, mean over bands and positions")
    assert "rounded to zero" not in picture.how_to_read
    assert "null" not in picture.how_to_read
    assert (picture.sample, older.null_rows()) == (OLDER, [])


def test_vectors_are_said_longer_or_shorter_as_they_are():
    shorter = lengths(D)
    bound = RoundingMeter(1, torch.zeros(2, dtype=torch.int64), "half").to_value.relative_bound
    assert f"it became zero; within {bound:.1%}".replace("%", " %") in shorter.how_to_read
    assert shorter.title == "Quantized K vectors are 3.00% shorter on average (-3.00%; at random angles +0.60%)"
    longer = lengths(seen_with(rounding=Roundings(k=planted.rounded_tensor(norm=0.01))))
    assert longer.title == "Quantized K vectors are 1.50% longer on average (+1.50%; at random angles +0.60%)"
    same = lengths(seen_with(rounding=Roundings(k=planted.rounded_tensor(norm=1e-6))))
    assert same.title.startswith("Quantized K vectors are as long as the exact ones on average (+0.00%;")
    by_name = {t.name: list(t.y) for t in shorter.figure.data}
    assert by_name["K, mean"] == pytest.approx([-0.02, -0.04])
    assert by_name["K, RMS"] == pytest.approx([0.03, 0.06])
    assert by_name["null: errors at random angles (K, mean)"] == pytest.approx([0.004, 0.008])
    assert by_name["q, mean"] == pytest.approx([0.001, 0.002])


def test_shares_at_the_grids_ends_are_said_where_there_are_any():
    text = lengths(D).how_to_read
    assert "of all KV heads and all tokens that are counted below" in text  # keys still exact are not
    assert "37.50% of K's values that are not zero become zero, most in layer 1, KV head 1 (50.00%)." in text
    assert "No value of K lies beyond the grid's end." in text
    assert "These differences have no null: at a random angle a pair's error is as large by construction" in text
    assert "Shares have no null but 0: they depend on the grid itself" in text
    other = lengths(seen_with(rounding=Roundings(k=planted.rounded_tensor(zeroed=0.0, clipped=0.01)))).how_to_read
    assert "No value of K that is not zero becomes zero." in other
    assert "1.50% of K's values lie beyond the grid's end, most in layer 1, KV head 1 (2.00%)." in other
    unknown = planted.rounded_tensor().model_copy(update={"zeroed": [[None] * 2] * 2, "clipped": [[None] * 2] * 2})
    silent = lengths(seen_with(rounding=Roundings(k=unknown))).how_to_read
    assert "grid's end" not in silent
    assert "Shares have no null" not in silent


def test_whose_keys_the_shares_are_of_is_said_where_earlier_layers_err_too():
    said = "These shares are of K as the quantizer is given it, behind the errors of earlier layers."
    found = D.rounding
    for compares, there in ((PROPAGATED, True), (LOCAL, False)):
        sample = found.sample.model_copy(update={"compares": compares})
        rounding = found.model_copy(update={"sample": sample, "q": None})
        assert (said in lengths(seen_with(rounding=rounding)).how_to_read) is there


def test_q_of_all_rows_is_not_said_to_be_sampled():
    assert "sampled" not in lengths(D).how_to_read
    found = lengths(seen_with(rounding=D.rounding.model_copy(update={"q_rows": 1200})))
    assert "Lengths and differences of q are of the 1,200 sampled query rows, not of all tokens." in found.how_to_read
    assert found.table.groupby("tensor")["tokens"].first().to_dict() == {"K": 64, "q": 1200}
    assert set(lengths(D).table["tokens"]) == {64}


def test_the_table_of_lengths_names_heads_bands_and_the_rest():
    table = lengths(D).table
    assert len(table) == 2 * 2 * (2 + 2)
    head = table[(table["tensor"] == "K") & (table["layer"] == 1) & (table["of"] == "KV head 0")].iloc[0]
    assert (head["largest_difference"], head["zeroed_share"], head["null_length_mean"]) == (1.0, 0.5, 0.008)
    partial = planted.rounded_tensor().model_copy(update={"rest_largest": [0.7, 0.8], "rest_rms": [0.1, 0.2]})
    rows = lengths(seen_with(rounding=Roundings(k=partial))).table
    assert rows[rows["of"] == "channels without rotation"]["largest_difference"].tolist() == [0.7, 0.8]


def test_a_share_that_is_not_zero_is_never_printed_as_zero():
    tiny = D.rounding.k.model_copy(update={"zeroed": [[0.0, 9e-5], [0.0, 0.0]]})
    text = lengths(seen_with(rounding=D.rounding.model_copy(update={"k": tiny}))).how_to_read
    said = "Under 0.01% of K's values that are not zero become zero, most in layer 0, KV head 1 (Under 0.01%)."
    assert said.replace("(Under", "(under") in text
    assert " 0.00%" not in text


@pytest.mark.parametrize(
    ("before", "own", "asked", "where"),
    [
        (False, False, "on its angle?", "after RoPE, from 0°"),
        (True, False, "on its angle after RoPE?", "after RoPE, from 0°"),  # an older file
        (True, True, "on its angle before RoPE?", "before RoPE, from 0°"),
    ],
)
def test_which_axes_the_angles_are_on_is_said(before, own, asked, where):
    seen = D.anisotropy.model_copy(update={"before_rope": before, "angle_before_rope": own})
    picture = by_angle(seen_with(anisotropy=seen))
    assert picture.title.startswith(f"Does a pair's error depend {asked}")
    assert where in picture.how_to_read
    assert ("The setup rounds K before RoPE, on other axes" in picture.how_to_read) is (before and not own)
    assert ("so these are its quantizer's axes" in picture.how_to_read) is own


def test_pairs_whose_partner_has_no_error_are_counted_in_words():
    null = D.anisotropy.null.model_copy(update={"lone": 3, "pairs": 1024})
    seen = D.anisotropy.model_copy(update={"null": null})
    assert "For 3 of 1,024 pairs the other pair has no error" in by_angle(seen_with(anisotropy=seen)).how_to_read
    assert all("for 3 of 1,024 pairs, whose partner has none" in row.control for row in seen.null_rows())
    assert "pair has no error" not in by_angle(D).how_to_read


def test_a_missing_null_has_its_reason():
    seen = D.anisotropy.model_copy(update={"null": None})
    assert "with one RoPE pair a head there is no other pair" in by_angle(seen_with(anisotropy=seen)).how_to_read
