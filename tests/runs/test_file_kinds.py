"""A file of another kind is named, with what opens it; one that is simply broken keeps its own refusal."""

from __future__ import annotations

import json

import pytest

import qroar_core as qroar
from qroar_core.errors import BadCheckpoint, BadOutput, BadScales, BadSpec
from qroar_core.rope_search.result import RopeTrials
from qroar_core.runs.file_kinds import kind_of_file
from tests.cli.command import refused
from tests.helpers import (
    planted,
    planted_comparison,
    planted_evidence,
    planted_prediction,
    planted_retrieval,
    planted_rope_search,
    planted_task_scores,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One of every kind, as its stage writes it."""
    folder = tmp_path_factory.mktemp("files")
    made = {
        "diagnosis": planted.diagnosis(),
        "evaluation": planted.evaluation(),
        "retrieval": planted_retrieval.retrieval(),
        "lm_eval": planted_task_scores.task_scores(),
        "scales": planted.scales(),
        "search": planted.report(),
        "comparison": planted_comparison.comparison(),
        "tune_rope": planted_rope_search.rope_search(),
        "rope_trials": RopeTrials(studies=planted_rope_search.rope_search().studies),
        "controls": planted_evidence.controls(),
        "replicate": planted_evidence.replication(),
        "predict": planted_prediction.prediction(),
    }
    for name, result in made.items():
        (folder / f"{name}.json").write_text(result.to_json())
    (folder / "rope.json").write_text('{"method": "yarn", "factor": 2, "beta_fast": 24}')
    return folder


WORDS = {
    "diagnosis": "is a diagnosis",
    "evaluation": "is an evaluation",
    "retrieval": "is a retrieval test",
    "lm_eval": "is a file of task scores",
    "scales": "is a file of scales",
    "search": "is the report of a search of scales",
    "comparison": "is a comparison of remedies",
    "tune_rope": "is a search of interpolations",
    "rope_trials": "is what a stopped search of interpolations left",
    "controls": "is a file of controls",
    "replicate": "is a file of tested claims",
    "predict": "is a file of what single bands cost",
    "rope": "is an interpolation",
}
OPENERS = {
    "diagnosis": qroar.Diagnosis,
    "evaluation": qroar.Evaluation,
    "retrieval": qroar.Retrieval,
    "lm_eval": qroar.TaskScores,
    "comparison": qroar.Comparison,
    "tune_rope": qroar.RopeSearch,
}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("opened", OPENERS)
def test_another_kind_of_file_is_named_with_what_opens_it(files, name, opened):
    path = files / f"{name}.json"
    if name == opened:
        assert OPENERS[opened].load(path).to_json() == path.read_text()
        return
    with pytest.raises(BadOutput) as problem:
        OPENERS[opened].load(path)
    said = str(problem.value)
    assert said.startswith(f"{path}: {WORDS[name]}, not {WORDS[opened].removeprefix('is ')}; ")
    if name in OPENERS:
        assert said.endswith(f"open it with qroar.{OPENERS[name].__name__}.load")


def test_scales_searches_and_models_say_it_too(files, capfd):
    path = files / "diagnosis.json"
    with pytest.raises(BadScales, match=r"is a diagnosis, not a file of scales; open it with qroar\.Diagnosis\.load$"):
        qroar.Transform.load(path)
    with pytest.raises(BadOutput, match="is a diagnosis, not the folder of a search; open it with"):
        qroar.Search.load(path)
    with pytest.raises(BadCheckpoint, match=r"^/.*json: is a diagnosis, not a model; open it with"):
        qroar.load(path)
    line = refused(capfd, "evaluate", "demo", "--scales", path)
    assert line.startswith(f"--scales {path}: is a diagnosis, not a file of scales; ")


def test_an_interpolation_is_read_from_its_file_alone(files, tmp_path):
    rope = qroar.Rope("yarn", factor=2, beta_fast=24)
    assert qroar.load_rope(files / "rope.json") == qroar.load_rope(str(files / "rope.json")) == rope
    for name, words in (("tune_rope", "give the rope.json beside it"), ("diagnosis", "open it with qroar.Diagnosis")):
        path = files / f"{name}.json"
        with pytest.raises(BadSpec) as refused:
            qroar.load_rope(path)
        assert str(refused.value).startswith(f"{path}: {WORDS[name]}, not an interpolation; {words}")
    path = tmp_path / "mine.json"
    with pytest.raises(BadSpec, match=r"^/.*mine\.json: cannot be read.*; check the path$"):
        qroar.load_rope(path)
    path.write_text('{"method": "yarn", "factor": "2"}')
    with pytest.raises(BadSpec, match=r"^/.*mine\.json: factor: Input should be a valid number; correct the file$"):
        qroar.load_rope(path)
    with pytest.raises(BadSpec, match="load_rope: path must be that of a file, got None"):
        qroar.load_rope(None)


def test_a_broken_or_unknown_file_keeps_its_own_line(files, tmp_path):
    content = json.loads((files / "diagnosis.json").read_text())
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content | {"bands": 3}))
    with pytest.raises(BadOutput, match=r"mine\.json: bands: "):
        qroar.Diagnosis.load(path)
    for text in ("{}", "[1]", "{", '{"a": 1, "b": 2}'):
        path.write_text(text)
        assert kind_of_file(path) is None
        with pytest.raises(BadOutput, match=r"mine\.json: "):
            qroar.Diagnosis.load(path)
    with pytest.raises(BadOutput, match="check the path"):
        qroar.Diagnosis.load(tmp_path / "gone.json")
