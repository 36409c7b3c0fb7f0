"""Figures of the hidden states: each caption and title true of one result and false of another."""

from __future__ import annotations

import pytest

from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.diagnostics.similarity.result import EXACT_DB
from qroar_core.figures.nulls import null_words
from qroar_core.figures.picture import OLDER
from tests.diagnostics.hidden_states import accumulated, found
from tests.helpers import planted


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (18.04, "Yes: 18.0 [17.0, 19.5] dB in the last bin, 20 dB over all"),
        (19.6, "No more than shuffled rows show: 19.6 [18.6, 21.1] dB in the last bin, 20 dB over all"),
        (23.4, "No, less: 23.4 [22.4, 24.9] dB in the last bin, 20 dB over all"),
    ],
)
def test_the_title_says_what_stands_out_of_the_null(last, says):
    picture = similarity.by_position(found(last))
    assert picture.title == f"Does the output of layer 1 drift further with position? {says}"
    low, high, measured = picture.figure.data
    assert (list(low.y), list(high.y), list(measured.y)) == ([19.0, 19.0], [21.5, 21.5], [21.0, last])
    assert list(measured.error_y.array) == pytest.approx([1.5, 1.5])
    assert list(measured.error_y.arrayminus) == pytest.approx([1.0, 1.0])
    assert high.name.startswith("null: ")
    assert picture.table.query("layer == 1")["null_high_db"].tolist() == [21.5, 21.5]
    assert "63 sampled query rows; bars (seed 0)" in picture.sample


def test_where_nothing_is_rounded_no_figure_compares_decibels():
    """As of a cache that still holds every key of a short context exactly."""
    none = accumulated(added=(0.0, 0.0), inherited=(0.0, 0.0), cross=(0.0, 0.0))
    for drawn in (similarity.by_position, similarity.hidden_states):
        picture = drawn(found(144.494, accumulation=none))
        assert picture.title.endswith("? Not at all: no sampled row has an error")
        assert "where float32 cannot show a smaller error: there is none" in picture.how_to_read
        assert "Not at all" not in drawn(found(18.0)).title
        assert "there is none" not in drawn(found(18.0)).how_to_read
    assert similarity.accumulation(found(144.494, accumulation=none)).title.endswith("from? There is none")


def test_the_map_stands_beside_its_null():
    shown = similarity.hidden_states(found(18.0))
    assert [list(row) for row in shown.figure.data[0].z] == [[30, 30, None, 30, 30], [21, 18, None, 20, 20]]
    assert "Position 0 attends to itself alone and is left out" in shown.how_to_read


def test_the_layer_that_adds_most_is_named_with_its_nulls():
    picture = similarity.accumulation(found(18.0))
    assert picture.title.endswith("Layer 1 adds most, 75% of what it adds and inherits together")
    whole, inherited, added, share, null, low, high, cross = picture.figure.data
    assert list(whole.y) == pytest.approx([0.01, 0.044])
    assert (list(inherited.y), list(added.y)) == ([None, 0.01], [0.01, 0.03])
    assert (list(share.y), list(null.y)) == ([1.0, 0.75], [1.0, 0.5])
    assert (list(cross.y), list(high.y), list(low.y)) == (pytest.approx([0, 0.1]), [0.0, 0.05], [0.0, -0.05])
    assert picture.table["error"].tolist() == pytest.approx([0.01, 0.044])
    first = found(18.0, accumulation=accumulated(added=(0.2, 0.03)))
    assert "Layer 0 adds most, 100%" in similarity.accumulation(first).title
    exact = found(
        18.0,
        accumulation=accumulated((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)).model_copy(update={"share_added": [None, None]}),
    )
    assert similarity.accumulation(exact).title == "Where does the error of the hidden states come from? There is none"
    assert "Layers without attention" not in picture.how_to_read
    hybrid = found(18.0).model_copy(update={"decoder_layers": [3, 7]})
    assert "Layers without attention count with the next one shown" in similarity.accumulation(hybrid).how_to_read
    assert similarity.accumulation(hybrid).table["layer"].tolist() == [3, 7]


def test_null_rows_name_measured_and_null():
    rows = found(18.0).hidden.null_rows()
    assert [(r.measured, r.null, r.low, r.high) for r in rows] == [
        (18.0, 20.0, 19.0, 21.5),
        (0.75, 0.5, None, None),
        (pytest.approx(0.1), 0.0, -0.05, 0.05),
    ]


def test_an_older_file_draws_the_map_and_says_that_it_is_old():
    older = planted.diagnosis()
    assert similarity.hidden_states(older).sample == OLDER
    assert similarity.by_position(older) is None
    assert similarity.accumulation(older) is None
    assert older.hidden.null_rows() == []
    assert similarity.by_position(planted.diagnosis(quantized=False)) is None


def test_a_bin_that_digits_do_not_tell_from_its_null_does_not_differ():
    """21.26 dB [19.5, 24.3] against 21.33 to 35: the row of the null says 21 against 21, and the title no yes."""
    changes = {"sqnr_low": [[29.0] * 2, [20.0, 19.5]], "sqnr_high": [[31.0] * 2, [22.5, 24.3]]}
    null = {"null_low": [[29.0] * 2, [21.33] * 2], "null_high": [[31.0] * 2, [35.0] * 2], "layer_sqnr_db": [30.0, 24.6]}
    near, far = (found(last, **changes, **null) for last in (21.26, 19.91))
    said = null_words(near.hidden.null_rows()[0])
    assert (said["measured"], said["low"], said["high"]) == ("21", "21", "35")
    assert similarity.by_position(near).title.endswith(
        "No more than shuffled rows show: 21 [20, 24] dB in the last bin, 25 dB over all"
    )
    assert similarity.by_position(far).title.endswith("Yes: 20 [20, 24] dB in the last bin, 25 dB over all")


def test_an_interval_that_reaches_no_error_is_open_above_and_said_so():
    cap = [[31.0] * 2, [EXACT_DB] * 2]
    open_above = found(18.04, null_high=cap, sqnr_high=cap)
    picture = similarity.by_position(open_above)
    _, high, measured = picture.figure.data
    bottom, top = picture.figure.layout.yaxis.range
    assert all(y > top for y in high.y)
    assert all(y + arm > top for y, arm in zip(measured.y, measured.error_y.array, strict=True))
    assert bottom < min(17.04, 19.0) < max(measured.y) < top < 30
    assert "What leaves the figure at its top has no upper end: no error at all is within 2" in picture.how_to_read
    assert picture.title.endswith("Yes: 18.0 [17.0, no error] dB in the last bin, 20 dB over all")
    row = open_above.hidden.null_rows()[0]
    assert (row.high, row.low) == (EXACT_DB, 19.0)
    assert [null_words(row)[end] for end in ("low", "high")] == ["19", "no error"]
    beside = similarity.by_position(found(EXACT_DB, null_high=cap, sqnr_high=cap))  # a bin without any error
    _, high, measured = beside.figure.data
    top = beside.figure.layout.yaxis.range[1]
    assert (min(high.y) > top > EXACT_DB, measured.y[1] + measured.error_y.array[1]) == (True, EXACT_DB)
    closed = similarity.by_position(found(18.04))
    assert closed.figure.layout.yaxis.range is None
    assert "no upper end" not in closed.how_to_read


def test_a_share_is_shown_as_finely_as_its_error():
    for added, error, said in ((0.0312, 0.003, "75.7"), (0.0312, 0.03, "76"), (0.0312, 0.0, "76")):
        parts = accumulated(added=(0.01, added)).model_copy(update={"share_added_error": [0.0, error]})
        assert f"most, {said}% of what it adds" in similarity.accumulation(found(18.04, accumulation=parts)).title
