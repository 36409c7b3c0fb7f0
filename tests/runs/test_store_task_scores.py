"""What `lm-eval` leaves is a run: listed with its setting and its scores, and unreadable where they do not fit."""

import json
from dataclasses import replace

import pytest

from qroar_core.runs.folder import TASK_SCORES, manifest_of
from qroar_core.runs.store import RunStore
from tests.helpers.planted_task_scores import task_scores


@pytest.fixture
def run(root, loaded, setting):
    """As the command writes it."""
    asked = replace(setting, search=replace(setting.search, length=512))
    folder = root / "scores"
    folder.mkdir(parents=True)
    made = manifest_of(loaded, asked, "qroar lm-eval tiny --tasks mine.yaml")
    (folder / "manifest.json").write_text(made.model_copy(update={"stages": {"lm-eval": 3.0}}).to_json())
    (folder / TASK_SCORES).write_text(task_scores().to_json())
    return folder


def change(run, **entries):
    file = run / TASK_SCORES
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_it_is_listed_with_its_setting_and_opened_with_its_scores(run):
    (entry,) = RunStore().entries()
    assert (entry.name, entry.problem, entry.setting.rope.method) == ("scores", "", "yarn")
    assert entry.task_scores() == task_scores().as_written()
    assert RunStore().open(run).task_scores().sentences == task_scores().sentences


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"length": 256}, "length: 256, but the manifest has 512; the run contradicts itself"),
        ({"spec": {"seed": 5}}, "spec.seed: 5, but the manifest has 0"),
        ({"scores": []}, "scores: no score in it"),
    ],
)
def test_scores_that_do_not_fit_make_it_unreadable(run, edit, said):
    change(run, **edit)
    (entry,) = RunStore().entries()
    assert said in entry.problem
    assert TASK_SCORES in entry.problem


def test_scores_that_are_gone_are_missed(run):
    (run / TASK_SCORES).unlink()
    (entry,) = RunStore().entries()
    assert f"{TASK_SCORES} is missing, but the manifest lists it as made" in entry.problem
