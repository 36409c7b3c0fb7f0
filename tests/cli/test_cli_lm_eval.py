"""`lm-eval` on the command line: options, the table, the JSON, the files, and wrong values before any model is read."""

import json

import pytest

from qroar_core.harness.result import TaskScores
from tests.cli.command import printed, refused
from tests.helpers.planted_task_scores import task_scores


@pytest.fixture
def asks(stages):
    """The stage answers at once; the harness need not be there."""
    from qroar_core.harness import run as stage
    from qroar_core.harness import tasks

    asked = []

    def fake(loaded, setting, scales, spec, documents, on_step=None, tasks=None):
        asked.append((setting, scales, spec, len(documents), tasks))
        return task_scores()

    stages.patch(stage, "run", fake)
    stages.patch(tasks, "require_installed", lambda: None)
    stages.patch(tasks, "load_tasks", lambda spec: {"tasks": spec.tasks})
    return asked


LINE = ("lm-eval", "demo", "--tasks", "hellaswag, mine.yaml", "--k", "int4", "--rope", "yarn", "--factor", 4)


def test_options_become_the_spec_and_the_result_files_and_a_table(capfd, asks, tmp_path):
    out = printed(
        capfd,
        *LINE,
        *("--num-fewshot", 2, "--limit", 5, "--batch-size", 3, "--length", 512, "--seed", 4, "--chat", "--truncate"),
        *("--include-path", "/tmp", "--out", tmp_path / "o"),
    )
    ((setting, scales, spec, documents, tasks),) = asks
    assert (setting.rope.method, setting.quant.k.bits, setting.search.length, scales) == ("yarn", 4, 512, None)
    assert tasks == {"tasks": ("hellaswag", "mine.yaml")}
    assert (spec.fewshot, spec.limit, spec.batch, spec.length, spec.seed) == (2, 5, 3, 512, 4)
    assert (spec.chat, spec.truncate, spec.include_path, documents > 0) == (True, True, "/tmp", True)
    assert TaskScores.from_file(tmp_path / "o" / "lm_eval.json") == task_scores().as_written()
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["command"].startswith("python -m qroar_core lm-eval demo --tasks 'hellaswag, mine.yaml'")
    assert manifest["specs"]["rope"]["method"] == "yarn"
    assert [*manifest["stages"]] == ["lm-eval"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["lm_eval.json", "manifest.json"]
    rows = [line.split() for line in out.splitlines() if line.split()[:1] == ["mine"]]
    assert [row[1:6] for row in rows] == [
        ["acc", "reference", "identity", "0.7500", "±0.1250"],
        ["acc", "quantized", "identity", "0.5000", "±0.1250"],
        ["acc", "quantized", "tuned", "0.6250", "±0.1250"],
        ["word_perplexity", "reference", "identity", "12.5000", "8"],
        ["word_perplexity", "quantized", "identity", "15.0000", "8"],
        ["word_perplexity", "quantized", "tuned", "13.0000", "8"],
    ]
    assert task_scores().sentences[0] in out


def test_json_is_the_result(capfd, asks):
    assert json.loads(printed(capfd, *LINE, "--json")) == json.loads(task_scores().to_json())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "--tasks: which tasks?; add --tasks hellaswag, or a YAML file"),
        (("--tasks", "a,a"), "--tasks: tasks must be at least one, each once, got 'a, a'; give another value"),
        (("--tasks", "a", "--limit", 0), "--limit: limit must be at least 1 and finite, got 0; give 1 or more"),
        (
            ("--tasks", "a", "--batch-size", 0),
            "--batch-size: batch must be at least 1 and finite, got 0; give 1 or more",
        ),
        (("--tasks", "a", "--num-fewshot", -1), "--num-fewshot: fewshot must be at least 0 and finite, got -1; give"),
        (("--tasks", "a", "--length", 1), "--length: "),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(capfd, options, line):
    assert refused(capfd, "lm-eval", "demo", *options).startswith(line)


def test_without_the_harness_no_model_is_read(capfd, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    line = refused(capfd, *LINE)
    assert line.startswith("lm-eval: lm-evaluation-harness is not installed; pip install lm-eval")
