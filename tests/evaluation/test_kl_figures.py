"""The llama.cpp-like table, the KL figure, the rotation, cost by position: what they show is what the result says."""

import math
import statistics

import plotly.io
import pytest
import torch

from qroar_core.evaluation import figure as evaluation
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation.kl_report import kl_report
from qroar_core.evaluation.result import PositionCurve
from qroar_core.figures.picture import PAYLOAD_LIMIT
from tests.helpers import planted


def rotated(added=0.05):
    return planted.evaluation().model_copy(update={"rotation": planted.rotation(added)})


def line(table, length, condition):
    (found,) = table[(table["length"] == length) & (table["condition"] == condition)].to_dict("records")
    return found


def test_the_table_counts_as_llama_cpp_does():
    full = planted.evaluation(windows=3)
    full.window_nll["1024/quantized/tuned"] = [2.3, 2.5, 2.25]
    full.window_nll["1024/reference/identity"] = [1.9, 2.3, 2.1]
    found = line(figure_kl.table(full), 1024, "quantized, tuned")
    differences = [2.3 - 1.9, 2.5 - 2.3, 2.25 - 2.1]
    assert found["ln_ratio"] == pytest.approx(statistics.fmean(differences))
    assert found["ln_ratio_se"] == pytest.approx(statistics.stdev(differences) / math.sqrt(3))
    assert found["ppl"] == pytest.approx(math.exp(2.35))
    assert found["ppl_se"] == pytest.approx(math.exp(2.35) * 0.01)
    assert (found["kl_mean"], found["kl_p99"], found["same_top1"]) == (0.1, 1.0, 0.9)
    assert figure_kl.table(full)["length"].iloc[0] == 1024


def test_the_kl_figure_has_a_mark_for_mean_and_tail_of_every_condition_at_the_longest_length():
    picture = figure_kl.divergence(planted.evaluation())
    mean, tail = picture.figure.data
    assert (list(mean.x), list(tail.x)) == ([0.1] * 6, [1.0] * 6)
    assert "quantized, tuned" in mean.y
    assert picture.figure.layout.xaxis.title.text == "KL to the reference's prediction, nats per token"
    assert len(picture.table) == 12


def test_a_condition_that_is_the_reference_but_for_rounding_is_not_drawn():
    full = planted.evaluation()
    rows = [r.model_copy(update={"kl_mean": 2e-9}) if r.model == "reference" else r for r in full.rows]
    picture = figure_kl.divergence(full.model_copy(update={"rows": rows}))
    assert [name for name in picture.figure.data[0].y if name.startswith("reference")] == []
    assert len(picture.figure.data[0].y) == 4
    assert figure_kl.divergence(full.model_copy(update={"rows": rows[:2]})) is None


@pytest.mark.parametrize(("added", "bars"), [(0.05, [0.4, 0.05]), (None, [0.4])])
def test_rotation_and_what_scales_add(added, bars):
    finding = planted.rotation(added or 0.0)
    if added is None:
        finding = finding.model_copy(update={"added": None})
    picture = figure_kl.rotation(planted.evaluation().model_copy(update={"rotation": finding}))
    (drawn,) = picture.figure.data
    assert list(drawn.x) == bars
    assert list(drawn.error_x.array) == pytest.approx([0.05, 0.02][: len(bars)])
    assert picture.title.startswith("A Hadamard rotation recovers")
    assert figure_kl.rotation(planted.evaluation()) is None


def test_cost_by_position_is_shaded_by_its_paired_interval():
    curve = PositionCurve(
        position=[100, 200],
        curves={"reference/identity": [2.0, 2.1], "quantized/tuned": [2.2, 2.4]},
        cost_low={"quantized/tuned": [0.1, 0.25]},
        cost_high={"quantized/tuned": [0.3, 0.35]},
    )
    picture = evaluation.by_position(planted.evaluation().model_copy(update={"positions": curve}))
    shade, drawn = picture.figure.data
    assert list(drawn.y) == pytest.approx([0.2, 0.3])
    assert list(shade.x) == [100, 200, 200, 100]
    assert list(shade.y) == [0.3, 0.35, 0.25, 0.1]
    assert drawn.customdata[0] == pytest.approx((math.exp(2.2), math.exp(0.2), 0.1, 0.3))
    assert list(picture.table["quantized/tuned cost_low"]) == [0.1, 0.25]


@pytest.mark.parametrize(
    "picture", [figure_kl.divergence(planted.evaluation()), figure_kl.rotation(rotated())], ids=lambda p: p.title[:20]
)
def test_every_picture_says_how_to_read_it_and_is_small(picture):
    assert picture.how_to_read.endswith(".")
    assert picture.figure.layout.xaxis.title.text
    assert picture.figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT


def test_the_full_report_has_a_column_for_every_condition_at_the_longest_length():
    full = planted.evaluation()
    assert figure_kl.kl_report(full) is None  # results of before it was counted
    reference = torch.linspace(0.5, 2.0, 12).view(3, 4)
    close = kl_report(reference, reference + 0.1, torch.full((3, 4), 0.2), torch.ones(3, 4, dtype=torch.bool))
    rows = [row.model_copy(update={"close": close}) for row in full.rows]
    table = figure_kl.kl_report(full.model_copy(update={"rows": rows}))
    assert "reference" not in table.columns
    assert {"quantized", "quantized, tuned"} < set(table.columns)
    column = dict(zip(table.iloc[:, 0], table["quantized, tuned"], strict=True))
    assert column["ln(PPL / reference)"] == pytest.approx(0.1, rel=1e-5)
    assert column["KL median"] == pytest.approx(0.2)
    assert column["Δp maximum"] < 0
    assert column["same top token"] == 1.0
    assert len(column) == 6 + 6 + 4 + 11 + 2
