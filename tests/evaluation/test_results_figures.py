"""Scales, search and evaluation: what a figure shows is what the result and the table say."""

import math

import plotly.io
import pytest

from qroar_core.evaluation import figure as evaluation
from qroar_core.evaluation.headline import headline
from qroar_core.figures.picture import PAYLOAD_LIMIT
from qroar_core.scale_search import figure as search_trace
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.transforms.kinds.scales import figure as scales
from tests.helpers import planted


def trace(picture, name):
    return next(t for t in picture.figure.data if t.name == name)


def every_picture():
    full = planted.evaluation()
    yield evaluation.perplexity_by_length(full)
    yield evaluation.gain_and_attribution(full)
    yield evaluation.by_position(full)
    yield search_trace.candidates(planted.report().history, "cached")
    for granularity in ("model", "layer", "kv_head"):
        yield scales.by_layer_and_band(planted.scales(granularity))


@pytest.mark.parametrize("picture", every_picture(), ids=lambda p: p.title)
def test_every_picture_has_title_units_reading_table_and_little_payload(picture):
    assert picture.title
    assert picture.how_to_read.endswith(".")
    assert len(picture.table) > 0
    layout = picture.figure.layout
    assert layout.xaxis.title.text
    assert layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT


def test_perplexity_figure_shows_the_rows_with_their_intervals():
    picture = evaluation.perplexity_by_length(planted.evaluation())
    tuned = trace(picture, "quantized, tuned")
    assert [round(x) for x in tuned.x] == [0, 1]
    assert picture.figure.layout.xaxis.ticktext == ("256", "1024")
    assert list(tuned.y) == pytest.approx([math.exp(2.25), math.exp(2.35)])
    assert tuned.error_y.array[0] == pytest.approx(math.exp(2.25 + 0.0196) - math.exp(2.25))
    lines = picture.table[picture.table["condition"] == "quantized, tuned"]
    assert list(lines["ppl"]) == pytest.approx(list(tuned.y))
    assert list(lines["ppl_low"]) == pytest.approx([math.exp(2.25 - 0.0196), math.exp(2.35 - 0.0196)])


def test_gain_and_its_parts_are_drawn_with_their_intervals():
    picture = evaluation.gain_and_attribution(planted.evaluation())
    bars = picture.figure.data[0]
    assert list(bars.x) == [0.25, 0.24, 0.01]
    assert list(bars.error_x.array) == pytest.approx([0.05, 0.05, 0])
    assert list(bars.error_x.arrayminus) == pytest.approx([0.05, 0.05, 0])
    assert list(picture.table["nats_per_token"]) == [0.25, 0.24, 0.01]


def test_an_evaluation_without_gain_or_positions_has_no_such_picture():
    bare = planted.evaluation().model_copy(update={"gain": None, "positions": None, "attribution": None})
    assert evaluation.gain_and_attribution(bare) is None
    assert evaluation.by_position(bare) is None


def test_headline_names_the_longest_length():
    names = {number.name: number.value for number in headline(planted.evaluation())}
    assert names == {
        "PPL, reference": f"{math.exp(2.1):.3f}",
        "PPL, quantized": f"{math.exp(2.6):.3f}",
        "PPL, quantized, tuned": f"{math.exp(2.35):.3f}",
        "NLL gap recovered": "50%",
    }
    assert headline(planted.evaluation())[-1].beside == "[40%, 60%]"


def test_a_share_that_may_be_zero_is_no_figure():
    """45 % of the gap, whose gain has an interval that includes zero: said so, and the share small beside it."""
    shown = headline(planted.scattered())[-1]
    assert (shown.name, shown.value, shown.muted) == ("NLL gap recovered", "not significant", True)
    assert shown.beside == "45% [-54%, 144%]"
    without = planted.scattered().model_copy(update={"window_nll": {}})  # an older file
    assert headline(without)[-1].beside == "45%"


def test_scales_map_is_log2_of_g_row_by_row():
    picture = scales.by_layer_and_band(planted.scales())
    shown = picture.figure.data[0]
    assert [list(line) for line in shown.z] == [[1, -1], [0, 0], [2, 0], [0, -2]]
    assert list(shown.y) == ["layer 0, KV head 0", "layer 0, KV head 1", "layer 1, KV head 0", "layer 1, KV head 1"]
    assert (shown.zmin, shown.zmax) == (-2, 2)
    assert list(picture.table["g"]) == [2.0, 0.5, 1.0, 1.0, 4.0, 1.0, 1.0, 0.25]


def test_identity_scales_say_so():
    assert "stay as they are" in scales.by_layer_and_band(planted.scales("model", [1.0, 1.0])).title


def test_trace_shows_candidates_best_and_identity():
    picture = search_trace.candidates(planted.report().history)
    assert list(trace(picture, "best so far").y) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert list(trace(picture, "candidate").y) == pytest.approx([1, 1.1, 0.6, 0.7, 0.2])
    assert set(trace(picture, "identity (no scales)").y) == {1.0}


def test_trace_title_is_the_finding_and_dots_below_the_line_are_explained():
    history = planted.report().history
    picture = search_trace.candidates(history)
    assert picture.title == "The best scales lower the objective by 80.0%"
    assert "few rows" not in picture.how_to_read  # every dot is at or above the line
    assert search_trace.candidates(history[:1]).title == "No candidate is better than no scales so far"
    assert search_trace.candidates([]).title == "What has the search found so far?"
    below = [*history, HistoryPoint(step=9, label="gradient step 9", objective=0.1, best=0.2)]
    assert "seen on a few rows of one window only" in search_trace.candidates(below).how_to_read


def test_a_long_search_is_thinned_but_keeps_its_best_and_its_last():
    history = [HistoryPoint(step=i, label=f"c{i}", objective=abs(i - 30_001), best=1.0) for i in range(50_000)]
    picture = search_trace.candidates(history)
    drawn = list(trace(picture, "candidate").x)
    assert len(drawn) <= search_trace.MOST_DRAWN + 2
    assert {30_001, 49_999} <= set(drawn)
    assert len(picture.table) == 50_000
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT


def test_candidates_of_a_running_search_are_picked_from_its_details():
    seen = planted.report().history
    assert search_trace.candidates_of(({"what": "else"}, *seen)) == seen


def test_cost_over_the_reference_is_paired_by_window():
    picture = evaluation.cost_by_length(planted.evaluation())
    lines = picture.table[picture.table["condition"] == "quantized"]
    assert list(lines["length"]) == [256, 1024]
    assert list(lines["cost_nats"]) == pytest.approx([0.5, 0.5])
    assert list(lines["ci_low"]) == pytest.approx([0.5, 0.5])  # the same in every window: no spread is left
    marks = trace(picture, "quantized")
    assert list(marks.y) == pytest.approx([0.5, 0.5])
    assert picture.figure.layout.xaxis.ticktext == ("256", "1024")
