"""Retrieval maps: what stands in a cell and on its hover is what the trials say."""

import plotly.io
import pytest

from qroar_core.figures.picture import PAYLOAD_LIMIT
from qroar_core.retrieval import figure as retrieval
from qroar_core.retrieval.findings import QUANTIZED, REFERENCE, TUNED
from tests.helpers import planted_retrieval as planted


def cells(picture, what):
    """(row, panel) -> values of a panel's two columns; a gap column stands between panels."""
    rows = getattr(picture.figure.data[0], what)
    return {
        (i, panel): list(row[3 * panel : 3 * panel + 2])
        for i, row in enumerate(rows)
        for panel in range((len(row) + 1) // 3)
    }


@pytest.mark.parametrize("score", list(retrieval.SCORES))
def test_every_picture_has_title_units_reading_table_and_little_payload(score):
    result = planted.retrieval()
    for picture in (retrieval.by_condition(result, "passkey", score), retrieval.differences(result, "passkey", score)):
        assert picture.title.startswith("Passkey: ")
        assert picture.how_to_read.endswith(".")
        assert len(picture.table) in (15, 10)
        assert picture.figure.layout.xaxis.title.text == "context length, tokens"
        assert picture.figure.layout.coloraxis.colorbar.title.text in ("share of trials", "nats per answer token")
        assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT


def test_generation_shows_hits_over_trials_with_wilsons_interval_on_hover():
    picture = retrieval.by_condition(planted.retrieval(unfit={("passkey", 1024, 0.0): 3}), "passkey", "hits")
    assert (
        picture.title == "Passkey: generated answer, reference 15 of 16; quantized 7 of 16; quantized, tuned 11 of 16"
    )
    values, words, hover = (cells(picture, what) for what in ("z", "text", "hovertext"))
    assert values[1, 0] == [1.0, 0.75]
    assert words[0, 1] == ["4/4", "0/4<br>1 cut off"]
    assert words[1, 1] == ["2/4", "1/4"]
    assert values[0, 2] == [1.0, 0.5]
    said = hover[0, 1][1]
    assert said.startswith("quantized, 0% deep, 1,024 tokens<br>generated: 0 of 4 [0%, 49%]<br>likeliest: 0 of 4")
    assert "log-probability -2.000 [-2.4" in said
    assert "+1.000 above other numbers" in said
    assert said.endswith("answers cut off by the token budget: 1<br>prompts that did not fit: 3")
    assert list(picture.figure.layout.yaxis.ticktext) == ["0% deep", "50% deep"]
    assert [a.text for a in picture.figure.layout.annotations] == ["reference", "quantized", "quantized, tuned"]
    axis = picture.figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (0, 1)


def test_log_probability_and_choice_have_maps_of_their_own():
    result = planted.retrieval()
    picture = retrieval.by_condition(result, "passkey", "log_prob")
    assert cells(picture, "z")[0, 1] == pytest.approx([-2.0, -2.0])
    assert cells(picture, "text")[1, 1] == ["-2.00<br>2/4", "-2.00<br>1/4"]
    assert picture.title.endswith("reference -0.50; quantized -2.00; quantized, tuned -1.25")
    chosen = retrieval.by_condition(result, "passkey", "chosen")
    assert cells(chosen, "z")[1, 1] == [0.5, 0.5]
    assert "a guess has 20%" in chosen.how_to_read


def test_differences_are_signed_and_starred_where_the_interval_excludes_zero():
    result = planted.retrieval()
    picture = retrieval.differences(result, "passkey", "log_prob")
    assert cells(picture, "z")[0, 0] == pytest.approx([-1.5, -1.5])
    assert cells(picture, "z")[0, 1] == pytest.approx([0.75, 0.75])
    assert cells(picture, "text")[1, 1] == ["+0.75 *", "+0.75 *"]
    assert "1 gained, 0 lost of 4, p = 1" in cells(picture, "hovertext")[1, 1][0]
    assert picture.figure.layout.coloraxis.cmin == -picture.figure.layout.coloraxis.cmax == -1.5
    assert [a.text for a in picture.figure.layout.annotations] == [
        "quantized less reference",
        "with scales less quantized",
    ]
    hits = retrieval.differences(result, "passkey", "hits")
    assert cells(hits, "text")[0, 0] == ["+0", "-4"]
    assert cells(hits, "z")[0, 1] == [0.0, 0.5]
    assert cells(retrieval.differences(result, "passkey", "chosen"), "text")[1, 0] == ["-2", "-1"]
    assert retrieval.differences(planted.retrieval(conditions=(REFERENCE,)), "passkey", "hits") is None


def test_an_interval_that_holds_zero_has_no_star():
    trials = [
        planted.trial("passkey", place, i, who, "h", -1 + (planted.SPREAD[i] if who == TUNED else 0))
        for who in (REFERENCE, QUANTIZED, TUNED)
        for place in planted.PLACES
        for i in range(4)
    ]
    shown = cells(retrieval.differences(planted.made(trials), "passkey", "log_prob"), "text")
    assert shown[0, 1] == ["+0.00", "+0.00"]


def test_a_cell_without_a_trial_is_empty_and_says_why():
    kept = [t for t in planted.retrieval().trials if t.length == 256]
    result = planted.made(kept, unfit={("passkey", 1024, 0.0): 4, ("passkey", 1024, 0.5): 4})
    picture = retrieval.by_condition(result, "passkey", "hits")
    assert cells(picture, "z")[0, 0] == [1.0, None]
    assert cells(picture, "text")[0, 0] == ["4/4", "does not fit"]
    assert cells(retrieval.differences(result, "passkey", "hits"), "text")[0, 0] == ["+0", "does not fit"]


def test_answers_hold_every_word():
    table = retrieval.answers(planted.retrieval(), "passkey")
    assert len(table) == 48
    line = table[(table["condition"] == "quantized") & (table["length"] == 1024) & (table["depth"] == 0.0)]
    assert list(line["outcome"]) == ["wrong", "wrong", "wrong", "cut off"]
    assert list(line["said"]) == [" 99"] * 4
