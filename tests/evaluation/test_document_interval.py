"""The interval over documents against one worked by hand, and where it is not offered."""

import pytest
from scipy.stats import ttest_1samp

from qroar_core.evaluation import figure as figures
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation.findings import findings
from qroar_core.evaluation.result import Evaluation, RotationFinding
from qroar_core.figures.picture import BLUE, GREEN, GREY, PINK, RED
from qroar_core.figures.runs import gains
from qroar_core.library import results as library
from qroar_core.models.text import Document, windows
from qroar_core.runs.report import report_html
from qroar_core.statistics.intervals import clustered_interval, mean_interval
from tests.helpers import planted
from tests.runs.test_report import MANIFEST

DOCUMENTS = ["a", "c", "a", "b", "c", "c"]
VALUES = [1.0, 6.0, 3.0, 4.0, 8.0, 10.0]  # means 2, 4 and 8 of a, b and c


def test_by_hand():
    """Mean 14/3; deviations -8/3, -2/3, 10/3; variance (64 + 4 + 100) / 9 / 2 = 28/3; t(0.975, 2) = 4.302653."""
    found = clustered_interval(VALUES, DOCUMENTS)
    assert found.mean == pytest.approx(14 / 3)
    assert found.se == pytest.approx((28 / 9) ** 0.5)
    assert found.high - found.mean == pytest.approx(4.302653 * (28 / 9) ** 0.5, rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_two_documents_have_no_interval_and_a_document_a_window_changes_nothing():
    assert clustered_interval([1.0, 2.0, 3.0], ["a", "b", "b"]) is None
    assert clustered_interval(VALUES, "abcdef") == mean_interval(VALUES)
    with pytest.raises(ValueError, match="6 values in 2 clusters"):
        clustered_interval(VALUES, ["a", "b"])


def nll(gains):
    before = [3.0 + i for i in range(len(gains))]
    return {
        "reference/identity": [x - 1 for x in before],
        "reference/tuned": [x - 1 for x in before],
        "quantized/identity": before,
        "quantized/tuned": [x - gain for x, gain in zip(before, gains, strict=True)],
    }


CORRELATED = [0.9, 1.1] * 4 + [0.2, 0.2] + [-0.1] * 2  # windows of a document gain alike


def test_windows_that_resemble_each_other_make_a_gain_look_proven():
    documents = ["a"] * 8 + ["b"] * 2 + ["c"] * 2
    found = findings(nll(CORRELATED), 64, 0.95, documents)
    over_windows, over_documents = found["gain"], found["gain_by_document"]
    assert over_windows.significant
    assert not over_documents.significant
    low, high = ttest_1samp([1.0, 0.2, -0.1], 0.0).confidence_interval(0.95)
    assert (over_documents.ci_low, over_documents.ci_high) == pytest.approx((low, high))
    assert over_documents.delta_nll == pytest.approx(1.1 / 3)
    assert over_documents.documents == 3
    assert over_documents.sentence == (
        "counted over 3 documents instead of 12 windows, the gain is not significant: "
        f"+0.3667 nats [{low:+.4f}, {high:+.4f}]"
    )
    assert found["documents"] == documents


def test_a_gain_that_stands_is_said_so_and_nothing_is_claimed_without_documents():
    documents = ["a"] * 6 + ["b"] * 3 + ["c"] * 3
    found = findings(nll([0.5 + 0.01 * i for i in range(12)]), 64, 0.95, documents)
    assert (
        "over 3 documents instead of 12 windows, the gain remains significant: +0.5"
        in found["gain_by_document"].sentence
    )
    assert findings(nll(CORRELATED), 64, 0.95)["gain_by_document"] is None
    assert findings(nll(CORRELATED), 64, 0.95, ["a"] * 6 + ["b"] * 6)["gain_by_document"] is None


def evaluation(documents):
    told = findings(nll(CORRELATED), 64, 0.95, documents)
    return Evaluation(rows=[], text="t", window_nll={}, **told)


def test_the_figure_has_both_intervals_where_they_differ():
    shown = figures.gain_and_attribution(evaluation(["a"] * 8 + ["b"] * 2 + ["c"] * 2))
    line = shown.table.set_index("part").loc["the same, over 3 documents"]
    assert line["nats_per_token"] == pytest.approx(1.1 / 3)
    assert line["ci_low"] < 0 < line["ci_high"]
    assert "over documents, each is one observation" in shown.how_to_read
    assert len(set(shown.figure.data[0].marker.color)) == 3
    same = figures.gain_and_attribution(evaluation(list("abcdefghijkl")))
    assert "documents" not in " ".join([*same.table["part"], same.how_to_read])


def test_a_gain_is_never_said_without_what_speaks_against_it():
    found = evaluation(["a"] * 8 + ["b"] * 2 + ["c"] * 2)
    counted = found.gain_by_document.sentence
    assert found.finding == f"{found.sentence}. But {counted}"
    shown = library.Evaluation.of(found.model_copy(update={"rows": planted.evaluation().rows}))
    assert f"But {counted}" in shown.summary()
    assert f"But {counted}" in repr(shown)
    whole = planted.evaluation().model_copy(update={"gain_by_document": found.gain_by_document})
    report = report_html(
        MANIFEST, planted.diagnosis(), planted.report(), planted.scales(), whole.model_copy(update={"sentence": "s"})
    )
    assert f'<p class="finding">S. But {counted}.</p>' in report
    assert "shows a gain that is significant over windows but not over documents" in report
    assert "a significant gain too" not in report
    runs = gains([("one", whole), ("two", planted.evaluation())])
    assert dict(zip(runs.table["run"], runs.table["significant"], strict=True)) == {"one": False, "two": True}
    stands = evaluation(list("abcdefghijkl"))
    assert stands.finding == stands.sentence


def test_a_bar_whose_interval_includes_zero_is_grey():
    """On both sides of zero, and red where it is a loss: by the interval, whatever the bar stands for."""
    shown = figures.gain_and_attribution(evaluation(["a"] * 8 + ["b"] * 2 + ["c"] * 2))
    colours = dict(zip(shown.table["part"], shown.figure.data[0].marker.color, strict=True))
    assert colours == {
        "gain under quantization": GREEN,
        "the same, over 3 documents": GREY,
        "of it: quantization repaired": BLUE,
        "of it: retuning, independent of quantization": GREY,
    }
    assert "A grey bar's interval touches 0: not significant." in shown.how_to_read
    ends = {(0.1, 0.2): PINK, (-0.1, 0.2): GREY, (0.0, 0.2): GREY, (-0.2, 0.0): GREY, (-0.2, -0.1): RED}
    lines = [("bar", (low + high) / 2, low, high) for low, high in ends]
    _, figure = figures.won_back([*lines, ("older file", 0.1, None, None)], [PINK] * 6)
    assert list(figure.data[0].marker.color) == [*ends.values(), GREY]


@pytest.mark.parametrize(("low", "colour"), [(-0.026, GREY), (0.01, PINK)])
def test_the_bar_of_a_rotation_that_changes_nothing_significant_is_grey(low, colour):
    found = planted.evaluation().model_copy(
        update={"rotation": RotationFinding(delta_nll=0.02, ci_low=low, ci_high=0.034, recovered=None, sentence="s")}
    )
    assert list(figure_kl.rotation(found).figure.data[0].marker.color) == [colour]


def test_windows_know_their_document(byte_tokenizer):
    texts = [Document("one", "a" * 40), Document("two", "b" * 25)]
    found = windows(byte_tokenizer, texts, 10, 5)
    assert found.documents == ["one"] * 3 + ["two"] * 2
    for ids, name in zip(found.ids.tolist(), found.documents, strict=True):
        assert len(set(ids)) == 1
        assert (ids == found.ids[0].tolist()) == (name == "one")
