"""Changes between conditions, paired by document; McNemar's p and Student's interval written out."""

from __future__ import annotations

import math

import pytest

from qroar_core.errors import BadSpec
from qroar_core.harness import figure
from qroar_core.harness.findings import changes, sentences
from qroar_core.harness.result import QUANTIZED, REFERENCE, TUNED, TaskScores
from qroar_core.harness.tasks import require_installed
from qroar_core.result_shapes import contradiction
from qroar_core.specs import HarnessSpec
from tests.helpers.planted_task_scores import score, task_scores


def samples(metric, values):
    return {"mine": [{"doc_id": i, "filter": "none", metric: x} for i, x in enumerate(values)]}


def test_right_or_wrong_is_counted_and_paired():
    before, after = [1, 1, 1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]
    scores = [score("acc", REFERENCE, 6 / 8), score("acc", QUANTIZED, 1 / 8)]
    (one,) = changes(scores, {REFERENCE: samples("acc", before), QUANTIZED: samples("acc", after)}, 0.95)
    assert (one.documents, one.gained, one.lost) == (8, 0, 5)
    assert one.p_value == pytest.approx(2 / 2**5)
    assert one.mean == pytest.approx(-5 / 8)
    reach = 2.364624 * math.sqrt((5 * (3 / 8) ** 2 + 3 * (5 / 8) ** 2) / 7 / 8)  # Student's t of 7 degrees
    assert (one.low, one.high) == pytest.approx((-5 / 8 - reach, -5 / 8 + reach), abs=1e-6)
    (said,) = sentences([one], {("mine", "acc"): True}, 0.95)
    assert said.startswith("mine, acc: quantization changes nothing significant, -62.50 points")  # p is 0.0625
    assert said.endswith("over 8 documents, 0 gained and 5 lost")
    (said,) = sentences([one], {("mine", "acc"): True}, 0.90)
    assert said.startswith("mine, acc: quantization costs -62.50 points")


def test_what_is_no_mean_over_documents_is_not_paired():
    values = {who: samples("f1", [0.1, 0.2]) for who in (REFERENCE, QUANTIZED)}
    assert changes([score("f1", REFERENCE, 0.3), score("f1", QUANTIZED, 0.3)], values, 0.95) == []
    pairs = {who: {"mine": [{"doc_id": 0, "filter": "none", "ppl": (-3.0, 4)}]} for who in (REFERENCE, QUANTIZED)}
    assert changes([score("ppl", REFERENCE, 2.0), score("ppl", QUANTIZED, 2.0)], pairs, 0.95) == []


def test_a_number_that_falls_and_is_better_so_is_recovered():
    values = {QUANTIZED: samples("loss", [1.0, 2.0, 3.0]), TUNED: samples("loss", [0.5, 1.4, 2.5])}
    scores = [score("loss", QUANTIZED, 2.0), score("loss", TUNED, 4.4 / 3)]
    (one,) = changes(scores, values, 0.95)
    assert (one.what, one.gained, one.p_value) == ("tuned - quantized", None, None)
    (said,) = sentences([one], {("mine", "loss"): False}, 0.95)
    assert said.startswith("mine, loss: the scales recover -0.5333 [")
    (said,) = sentences([one], {("mine", "loss"): None}, 0.95)
    assert said.startswith("mine, loss: the scales change -0.5333 [")


def test_a_file_that_contradicts_itself_is_noticed():
    found = task_scores()
    assert contradiction(found) == ""
    assert "twice" in contradiction(found.model_copy(update={"scores": [*found.scores, found.scores[0]]}))
    assert "not there" in contradiction(found.model_copy(update={"scores": found.scores[:1]}))


def test_shares_are_drawn_and_everything_is_in_the_table():
    drawn = figure.scores(task_scores())
    assert [trace.name for trace in drawn.figure.data] == ["reference", "quantized", "quantized, tuned"]
    assert [trace.x for trace in drawn.figure.data] == [(0.75,), (0.5,), (0.625,)]
    assert len(drawn.table) == 6
    none = task_scores().model_copy(update={"scores": [one for one in task_scores().scores if one.metric != "acc"]})
    assert figure.scores(none) is None


def test_without_the_harness_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(BadSpec, match=r"^lm-eval: lm-evaluation-harness is not installed; pip install lm-eval"):
        require_installed()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tasks": ()}, "at least one"),
        ({"tasks": ("a", "a")}, "each once"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"fewshot": -1}, "fewshot must be at least 0"),
        ({"chat": 1}, "chat must be True or False"),
        ({"confidence": 0.3}, "confidence must lie"),
    ],
)
def test_a_spec_of_nothing_is_refused(wrong, words):
    with pytest.raises(BadSpec, match=words):
        HarnessSpec(**({"tasks": ("a",)} | wrong))


def test_the_result_is_what_its_file_gives_back(tmp_path):
    (tmp_path / "x.json").write_text(task_scores().to_json())
    assert TaskScores.from_file(tmp_path / "x.json") == task_scores().as_written()
