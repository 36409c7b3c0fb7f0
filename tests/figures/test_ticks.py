"""Ticks of logarithmic axes, and lines that can be told apart."""

import pytest

from qroar_core.diagnostics.aliasing import figure as aliasing
from qroar_core.evaluation import figure_kl
from qroar_core.figures.picture import line_of
from qroar_core.figures.ticks import log_ticks
from tests.helpers import planted


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((0.03, 4.0), [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]),  # two decades: 1, 2, 5
        ((0.02, 0.11), [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2]),  # less than one
        ((0.02, 0.05), [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]),
        ((0.02, 0.035), [0.015, 0.02, 0.025, 0.03, 0.035, 0.04]),  # less than twofold
        ((3.0,), [2.5, 3, 3.5]),  # one value: its neighbours say where it is
    ],
)
def test_at_least_four_round_numbers_within_the_span_and_one_beyond_each_end(values, ticks):
    assert log_ticks(values) == ticks


def test_divergence_has_its_ticks_from_the_values_it_shows():
    evaluation = planted.evaluation()
    rows = [
        row.model_copy(update={"kl_mean": 0.02, "kl_p99": 0.035}) if row.kl_mean else row for row in evaluation.rows
    ]
    axis = figure_kl.divergence(evaluation.model_copy(update={"rows": rows})).figure.layout.xaxis
    assert list(axis.tickvals) == [0.015, 0.02, 0.025, 0.03, 0.035, 0.04]
    assert list(axis.ticktext) == ["0.015", "0.02", "0.025", "0.03", "0.035", "0.04"]


def test_lines_of_28_bands_all_differ_and_neighbours_differ_in_colour():
    lines = [(line["color"], line["dash"]) for line in map(line_of, range(28))]
    assert len(set(lines)) == 28
    assert all(one[0] != two[0] for one, two in zip(lines, lines[1:]))


def test_a_side_peak_has_the_colour_of_its_bands_line():
    diagnosis = planted.diagnosis()
    bands = [band.model_copy(update={"side_peak": 0.4 + 0.1 * band.index}) for band in diagnosis.bands]
    kernel = diagnosis.kernel.model_copy(update={"side_peak_at": [7 + band.index for band in bands]})
    diagnosis = diagnosis.model_copy(update={"bands": bands, "kernel": kernel})
    *lines, peaks = aliasing.kernel(diagnosis).figure.data
    lines = [line for line in lines if line.name != aliasing.NULL]
    assert [line.line.color for line in lines] == [line_of(band.index)["color"] for band in diagnosis.bands]
    assert list(peaks.marker.color) == [line_of(band)["color"] for band in peaks.customdata]
    assert list(peaks.x) == [7 + band.index for band in bands]
