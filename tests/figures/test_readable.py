"""Every figure without colour and on any cell: traces differ by shape, words stand out, ticks have one size."""

import itertools

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.colors import sample_colorscale

from qroar_core.diagnostics.bands import figure as band_figures
from qroar_core.evidence.controls import figure as controls
from qroar_core.evidence.prediction import figure as prediction
from qroar_core.evidence.replication import figure as replication
from qroar_core.figures import gallery, heatmaps, picture, runs
from qroar_core.figures.distinct_traces import look, panel_of, tell_apart, told_by_shape
from qroar_core.figures.lessons import aliasing as aliasing_figures
from qroar_core.figures.lessons import clocks as clocks_figures
from qroar_core.figures.lessons import commuting as commuting_figures
from qroar_core.figures.lessons import interpolations as bends_figures
from qroar_core.figures.lessons import shared_step as shared_step_figures
from qroar_core.figures.lessons import tied_clocks as tied_figures
from qroar_core.figures.lessons import turning as turning_figures
from qroar_core.figures.lessons import window as window_figures
from qroar_core.figures.readable import BLACK, WHITE, contrast, ink_on, write_on_cells
from qroar_core.figures.ticks import plain_ticks
from qroar_core.harness import figure as harness_figure
from qroar_core.lessons.aliasing import aliasing
from qroar_core.lessons.clocks import clocks
from qroar_core.lessons.commuting import commuting
from qroar_core.lessons.heads import HEADS
from qroar_core.lessons.interpolations import bends
from qroar_core.lessons.shared_step import shared_step
from qroar_core.lessons.tied_clocks import tied_clocks
from qroar_core.lessons.turning import turning
from qroar_core.lessons.window import window
from qroar_core.remedies import figure as comparison_figure
from qroar_core.retrieval import figure as retrieval
from qroar_core.rope_search import figure as rope_figures
from tests.helpers import (
    planted,
    planted_comparison,
    planted_evidence,
    planted_prediction,
    planted_retrieval,
    planted_rope_search,
    planted_task_scores,
)

LEAST = 4.5  # WCAG 2, level AA


def pictures():
    yield from (
        p
        for of in gallery.gallery(
            planted.diagnosis(), planted.report(), planted.scales("kv_head"), planted.evaluation()
        ).values()
        for p in of
    )
    yield band_figures.alone(planted.diagnosis())
    evaluation, file = planted.evaluation(), planted.scales("kv_head")
    yield from (runs.gains([("one", evaluation), ("two", evaluation)]), runs.scales([("one", file), ("two", file)]))
    yield from (drawn(planted_evidence.controls()) for drawn in (controls.forest, controls.number_formats))
    yield replication.matrix(planted_evidence.replication())
    yield from prediction.pictures(planted_prediction.prediction())
    yield from (drawn(planted_comparison.comparison()) for drawn in (comparison_figure.gains, comparison_figure.on_top))
    yield from (retrieval.by_condition(planted_retrieval.retrieval(), "passkey", score) for score in retrieval.SCORES)
    yield harness_figure.scores(planted_task_scores.task_scores())
    tuned = planted_rope_search.rope_search()
    yield from (rope_figures.gains(tuned), rope_figures.frequencies(tuned), *rope_figures.tried(tuned))
    head = HEADS[0]
    yield from (clocks_figures.clocks(clocks(head, 300, 8, 1)), window_figures.window(window(head, 16384)))
    yield from (bends_figures.bends(bends(head, 4.0)), turning_figures.turning(turning(4, 1.0, 2.0, 30.0)))
    kernels = aliasing(head, "yarn", 4.0, 8, 1024)
    yield from (aliasing_figures.kernel(kernels, 3), aliasing_figures.peaks(kernels))
    yield shared_step_figures.shared_step(shared_step(4, 8.0, 0.0))
    yield commuting_figures.commuting(commuting("apart", 45.0, 18, 200))
    yield tied_figures.tied_clocks(tied_clocks(18, 1.0, 1024))


DRAWN = [p for p in pictures() if p is not None]


def same_but_for_colour(figure):
    """Names of traces of one panel that nothing but colour tells apart."""
    seen, alike = {}, []
    for trace in figure.data:
        name = trace.legendgroup or trace.name
        if not told_by_shape(trace):
            continue
        before = seen.setdefault((panel_of(trace), look(trace)), name)
        if before != name:
            alike.append((before, name))
    return alike


@pytest.mark.parametrize("shown", DRAWN, ids=lambda p: p.title[:40])
def test_no_two_traces_of_a_panel_differ_by_colour_alone(shown):
    assert same_but_for_colour(shown.figure) == []


@pytest.mark.parametrize("shown", DRAWN, ids=lambda p: p.title[:40])
def test_a_logarithmic_axis_writes_its_numbers_in_full(shown):
    for axis in (*shown.figure.select_xaxes(), *shown.figure.select_yaxes()):
        assert axis.type != "log" or axis.tickformat or axis.ticktext
        assert axis.tickfont.size is None or axis.tickfont.size >= 11


def plain(*traces):
    figure = go.Figure()
    for kind, kept in traces:
        getattr(figure, f"add_{kind}")(x=[1, 2], y=[1, 2], **kept)
    return figure


def test_lines_get_dashes_points_symbols_and_bars_hatching():
    lines = [("scatter", {"mode": "lines", "name": f"band {i}"}) for i in range(3)]
    null = ("scatter", {"mode": "lines", "name": "null", "line": {"dash": "dash"}})
    points = [("scatter", {"mode": "markers", "name": name}) for name in ("one", "two")]
    figure = plain(*lines, null, *points, *(("bar", {"name": f"bar {i}"}) for i in range(2)))
    assert len(same_but_for_colour(figure)) == 4
    tell_apart(figure)
    assert [t.line.dash for t in figure.data[:4]] == [None, "dot", "dashdot", "dash"]  # the chosen dash stays, unshared
    assert [t.marker.symbol for t in figure.data[4:6]] == [None, "circle-open"]
    assert [t.marker.pattern.shape for t in figure.data[6:]] == [None, "/"]


@pytest.mark.parametrize(("last", "step"), [(90, None), (5000, 1), (5e8, 2)])
def test_a_long_logarithmic_axis_has_its_decades_only(last, step):
    figure = go.Figure(go.Scatter(x=np.array([1, int(last)]), y=[0, 0]))
    figure.update_xaxes(type="log")
    plain_ticks(figure)
    assert (figure.layout.xaxis.tickformat, figure.layout.xaxis.dtick) == ("~g", step)
    assert figure.layout.yaxis.dtick is None


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([0.12, 0.9], [0.1, 0.2, 0.3, 0.5, 0.7, 1]), ([0.004, 0.02], [0.003, 0.005, 0.007, 0.01, 0.02, 0.03])],
)
def test_upright_ticks_of_a_short_logarithmic_axis_leave_room_for_each_other(values, ticks):
    figure = go.Figure(go.Scatter(x=values, y=values))
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    plain_ticks(figure)
    assert list(figure.layout.yaxis.tickvals) == ticks
    assert figure.layout.xaxis.tickvals is None


def test_areas_and_text_stay_as_they_are():
    area = {"mode": "none", "fill": "toself"}
    figure = plain(*(("scatter", {"name": name, **kept}) for kept in (area, {"mode": "text"}) for name in "ab"))
    tell_apart(figure)
    assert [t.mode for t in figure.data] == ["none", "none", "text", "text"]


def test_64_lines_all_differ_and_the_same_group_keeps_one_look_in_every_panel():
    figure = plain(*(("scatter", {"mode": "lines", "name": f"band {i}"}) for i in range(64)))
    tell_apart(figure)
    assert same_but_for_colour(figure) == []
    twice = plain(*(("scatter", {"mode": "lines", "name": n, "xaxis": x}) for n in "ab" for x in ("x", "x2")))
    tell_apart(twice)
    assert [t.line.dash for t in twice.data] == [None, None, "dash", "dash"]


@pytest.mark.parametrize("scale", [picture.SEQUENTIAL, picture.DIVERGING])
def test_words_on_any_cell_of_the_colour_scales_are_readable(scale):
    shares = [i / 50 for i in range(51)]
    figure = go.Figure(go.Heatmap(x=list(range(52)), y=[0], z=[[2 * s for s in shares]], text=[["w"] * 51]))
    write_on_cells(figure, scale, 0.0, 2.0)
    words = figure.data[1]
    colours = sample_colorscale(scale, shares)
    assert list(words.x) == [i + 0.5 for i in range(51)]
    assert min(contrast(ink, cell) for ink, cell in zip(words.textfont.color, colours)) >= LEAST
    assert set(words.textfont.color) == {BLACK, WHITE}


def test_contrast_is_wcags():
    assert contrast("#000000", "#FFFFFF") == 21
    assert contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.01)
    assert ink_on("#FDE725") == BLACK
    assert ink_on("rgb(0, 34, 78)") == WHITE


def test_maps_with_numbers_write_them_in_black_or_white():
    result = planted_retrieval.retrieval()
    for shown in (retrieval.by_condition(result, "passkey", "hits"), retrieval.differences(result, "passkey", "hits")):
        cells, words = shown.figure.data
        assert cells.texttemplate is None
        assert set(words.textfont.color) <= {BLACK, WHITE}
        assert sorted(words.text) == sorted(word for row in cells.text for word in row if word)


@pytest.mark.parametrize("scale", [picture.SEQUENTIAL, picture.DIVERGING])
def test_crosses_on_cells_stand_out_from_every_cell(scale):
    values = [i / 20 for i in range(21)]
    middle = 0.5 if scale == picture.DIVERGING else None
    one = heatmaps.Panel("", [values], [str(v) for v in values], "x", "x")
    figure = heatmaps.side_by_side([one], ["row"], "", middle=middle)
    heatmaps.crossed(figure, [(heatmaps.column_at(0, i, 21), 0, v) for i, v in enumerate(values)], "inside", scale)
    cross = figure.data[1]
    inks = cross.marker.line.color
    assert (len(cross.x), {*inks}) == (21, {BLACK, WHITE})
    for ink, value in zip(inks, values, strict=True):
        assert contrast(ink, sample_colorscale(scale, value)[0]) >= LEAST


@pytest.mark.parametrize(("panels", "lines"), [(1, 1), (2, 1), (4, 2)])
def test_titles_over_panels_take_the_lines_that_their_width_asks_for(panels, lines):
    one = heatmaps.Panel("null: positions split at random", [[1.0]], ["0"], "band", "band")
    layout = heatmaps.side_by_side([one] * panels, ["row"], "").layout
    assert {note.text.count("<br>") + 1 for note in layout.annotations} == {lines}
    assert layout.margin.t == 17 + 17 * lines
    assert (
        max(len(line) for note in layout.annotations for line in note.text.split("<br>")) * panels
        <= heatmaps.TITLE_ROOM
    )


def test_names_of_columns_leave_room_for_each_other_in_the_narrowest_figure():
    names = [f"{i}–{i + 63}" for i in range(0, 4096, 64)]
    for panels in (1, 2):
        ticks = heatmaps.side_by_side(
            [heatmaps.Panel("", [[1.0] * 64], names, "x", "x")] * panels, ["row"], ""
        ).layout.xaxis
        assert sum(len(name) + 2 for name in ticks.ticktext) <= heatmaps.LABEL_ROOM + 11  # the last starts within it


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda p: p.title[:60])
def test_no_error_bar_is_left_the_colour_that_a_dark_page_has(drawn):
    """Without a colour of its own plotly draws it as the marks, or dark grey where these have several or are bars."""
    for trace in drawn.figure.data:
        for bar in (getattr(trace, "error_x", None), getattr(trace, "error_y", None)):
            if bar is None or bar.array is None:
                continue
            marked = trace.marker.color
            assert bar.color or (trace.type == "scatter" and (isinstance(marked, str) or trace.line.color)), trace.name


@pytest.mark.parametrize(
    ("count", "pairs", "panels", "indices", "with_pairs"),
    [(8, 4, 2, 8, 4), (8, 4, 1, 8, 8), (16, 4, 2, 8, 4), (8, 16, 2, 8, 4), (64, 1, 1, 22, 11), (1, 64, 2, 1, 1)],
)
def test_labels_of_bands_stand_upright_with_room_between_them(count, pairs, panels, indices, with_pairs):
    names = [f"{i}<br>{i * pairs}–{(i + 1) * pairs - 1}" for i in range(count)]
    figure = picture.framed(go.Figure(go.Bar(x=names, y=[1] * count, hovertemplate="band %{x}")), "", "")
    picture.upright(figure, names, panels)
    axis = figure.layout.xaxis
    assert (figure.data[0].hovertemplate, list(figure.data[0].customdata)) == ("band %{customdata}", names)
    both = [text for text in axis.ticktext if "<br>" in text]
    assert (axis.tickangle, len(axis.ticktext), len(both), axis.ticktext[0]) == (0, indices, with_pairs, names[0])
    for place, text in zip(axis.tickvals, axis.ticktext, strict=True):
        assert text in (place, place.partition("<br>")[0])
    pitch = picture.ACROSS / panels / count  # pixels from one band to the next
    for line in (0, 1):
        at = [
            (names.index(p), t.split("<br>")[line])
            for p, t in zip(axis.tickvals, axis.ticktext, strict=True)
            if t.count("<br>") >= line
        ]
        for (left, one), (right, other) in itertools.pairwise(at):
            free = (right - left) * pitch - (len(one) + len(other)) / 2 * picture.LETTER
            assert free >= picture.LETTER, (one, other)


def test_a_map_says_its_unit_once_and_sends_no_more_digits_than_show():
    one = heatmaps.Panel("", [[1 / 3, None]], ["a", "b"], "x", "channel")
    (trace,) = heatmaps.side_by_side([one], ["layer 0"], "nats").data
    assert [list(row) for row in trace.z] == [[0.333333, None]]
    assert [list(row) for row in trace.hovertext] == [["layer 0, channel a: 0.3333", "layer 0, channel b: no data"]]
    assert trace.hovertemplate == "%{hovertext} nats<extra></extra>"
