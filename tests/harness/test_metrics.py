"""Metrics that the harness would leave out of its table: refused with task, metric and what is known."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

from qroar_core.errors import BadSpec  # noqa: E402
from qroar_core.harness.metrics import not_given  # noqa: E402
from qroar_core.harness.tasks import load_tasks  # noqa: E402
from qroar_core.specs import HarnessSpec  # noqa: E402
from tests.harness.local_tasks import write_task  # noqa: E402

QUESTION = {"context": "a", "choices": ["b", "c"], "label": 0, "answer": "b", "text": "a b"}
MORE = "\n  - metric: {}\n    aggregation: {}\n    higher_is_better: true"
KNOWN = {  # as the harness's documents name them, by kind of task
    "multiple_choice": {"acc", "acc_norm", "acc_mutual_info", "acc_bytes", "brier_score", "exact_match", "f1", "mcc"},
    "loglikelihood_rolling": {"word_perplexity", "byte_perplexity", "bits_per_byte"},
    "generate_until": {"exact_match"},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setitem(sys.modules, "evaluate", None)  # half a minute of imports, and it asks the hub


def loaded(task, **more):
    return load_tasks(HarnessSpec((str(task),), **more))


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("metric", ["acuracy", "bypass_all"])
def test_a_metric_that_is_unknown_is_one_line_before_anything_is_computed(tmp_path, kind, metric):
    task = write_task(tmp_path, "mine", kind, [QUESTION], more=MORE.format(metric, "mean"))
    with pytest.raises(BadSpec) as refused:
        loaded(task)
    line = str(refused.value)
    start = f"--tasks: mine asks for the metric '{metric}', which the harness does not compute of {kind}; choose from "
    assert line.startswith(start)
    assert set(line.removeprefix(start).removesuffix(" in its YAML").split(", ")) >= KNOWN[kind]


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("multiple_choice", "word_perplexity"), ("loglikelihood_rolling", "acc"), ("generate_until", "acc_norm")],
)
def test_a_metric_of_another_kind_of_task_is_refused(tmp_path, kind, metric):
    """The harness knows the name and gives no number of it: nothing, or an error once all is computed."""
    task = write_task(tmp_path, "mine", kind, [QUESTION], more=MORE.format(metric, "mean"))
    with pytest.raises(BadSpec, match=f"mine asks for the metric '{metric}', which the harness does not compute"):
        loaded(task)


@pytest.mark.parametrize("kind", KNOWN)
def test_metrics_that_the_harness_computes_are_taken(tmp_path, kind):
    more = "".join(f"\n  - metric: {metric}" for metric in sorted(KNOWN[kind] - {"acc", "byte_perplexity"}))
    more = "" if kind == "generate_until" else more
    task = loaded(write_task(tmp_path, "mine", kind, [QUESTION], more=more))["tasks"]["mine"]
    assert set(task._metric_fn_list) == KNOWN[kind]


def test_an_aggregation_that_is_missing_or_unknown_is_named(tmp_path):
    task = write_task(tmp_path, "mine", "multiple_choice", [QUESTION], more="\n  - metric: nonsense")
    with pytest.raises(BadSpec, match=r"mine.* asks for the metric 'nonsense', for which the harness has no aggreg"):
        loaded(task)
    task = write_task(tmp_path, "mine", "multiple_choice", [QUESTION], more=MORE.format("acc_norm", "meen"))
    said = r"mine asks for the aggregation 'meen' of acc_norm, which the harness does not know; choose from .*mean"
    with pytest.raises(BadSpec, match=said):
        loaded(task)


def test_a_group_names_metrics_of_its_tasks(tmp_path):
    write_task(tmp_path, "part", "multiple_choice", [QUESTION])
    (tmp_path / "all.yaml").write_text("group: parts\ntask: [part]\naggregate_metric_list:\n  - metric: acc_nrom\n")
    with pytest.raises(BadSpec, match="the group parts asks for the metric 'acc_nrom', which none of its tasks has; "):
        load_tasks(HarnessSpec(("parts",), include_path=str(tmp_path)))


def test_what_own_code_does_not_give_is_said(tmp_path):
    (tmp_path / "scores.py").write_text("def score(doc, results):\n    return {'acc': 1.0}\n")
    more = MORE.format("other", "mean") + "\nprocess_results: !function scores.score"
    tasks = loaded(write_task(tmp_path, "mine", "multiple_choice", [QUESTION], more=more))
    rows = {"mine": {"alias": "mine", "acc,none": 1.0, "acc_stderr,none": "N/A", "sample_len": 1}}
    assert not_given(tasks, rows) == ["mine: no other, which its YAML names; its own code does not give it"]
    rows["mine"]["other,none"] = "many"
    assert not_given(tasks, rows) == ["mine: other is no number, and left out"]
    rows["mine"]["other,none"] = 0.5
    assert not_given(tasks, rows) == []
