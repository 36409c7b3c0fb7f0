"""A number has the same digits on the day it is measured and on every later one: stages end with what files give back.

17.87551 is written as 17.8755; three decimals of the one are 17.876, of the other 17.875.
"""

import math
import time
from dataclasses import replace

import pytest

from pages import jobs
from qroar_core.__main__ import main
from qroar_core.diagnostics import run as diagnose
from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.result import Evaluation
from qroar_core.jobs import Manager
from qroar_core.runs import pipeline
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.store import RunStore
from qroar_core.scale_search import run as search
from tests.helpers import (
    planted,
    planted_comparison,
    planted_evidence,
    planted_prediction,
    planted_retrieval,
    planted_rope_search,
    planted_task_scores,
)
from tests.runs.kept import outcome

MEASURED, WRITTEN = 17.87551, 17.8755
PATIENCE = 20.0  # seconds


def long_digits():
    """A planted evaluation whose perplexities have more digits than a file keeps."""
    result = planted.evaluation()
    mean, first = math.log(MEASURED), result.rows[0]
    row = first.model_copy(update={"nll": mean, "ppl": MEASURED})
    means = result.window_nll | {"256/reference/identity": planted.spread(mean, first.nll_se, 16)}
    return result.model_copy(update={"rows": [row, *result.rows[1:]], "window_nll": means})


def timed():
    """A planted diagnosis, likewise."""
    return planted.diagnosis().model_copy(update={"seconds": {"q": MEASURED}})


@pytest.mark.parametrize(
    "made",
    [
        planted.diagnosis,
        long_digits,
        planted.report,
        planted_comparison.comparison,
        planted_evidence.controls,
        planted_evidence.replication,
        planted_prediction.prediction,
        planted_rope_search.rope_search,
        planted_retrieval.retrieval,
        planted_task_scores.task_scores,
    ],
)
def test_every_result_is_what_its_file_gives_back(made, tmp_path):
    result, file = made(), tmp_path / "result.json"
    file.write_text(result.to_json())
    assert result.as_written() == type(result).from_file(file)
    assert result.as_written().to_json() == result.to_json()


def test_a_resumed_run_has_the_numbers_of_the_first(loaded, setting, tmp_path, monkeypatch):
    monkeypatch.setattr(diagnose, "run", lambda *a: timed())
    monkeypatch.setattr(search, "run", lambda *a, **kw: outcome(loaded))
    monkeypatch.setattr(evaluate, "run", lambda *a, **kw: long_digits())
    texts = {"calibration": [], "heldout": []}
    first, again = (
        pipeline.run(loaded, setting, texts, RunFolder.open(tmp_path / "run", loaded, setting, "x")) for _ in range(2)
    )
    assert first.evaluation.rows[0].ppl == again.evaluation.rows[0].ppl == WRITTEN
    assert first.diagnosis.seconds == {"q": WRITTEN}
    assert (first.diagnosis, first.report, first.evaluation) == (again.diagnosis, again.report, again.evaluation)


def test_a_page_has_the_numbers_it_has_after_a_restart(root, loaded, setting, monkeypatch):
    store, manager = RunStore(), Manager(store=RunStore().get)
    monkeypatch.setattr(jobs, "library", lambda: store)
    monkeypatch.setattr(jobs, "manager", lambda: manager)
    asked = replace(jobs.evaluate, run=lambda *a, on_step: long_digits()).start(loaded, setting, None)
    end = time.monotonic() + PATIENCE
    while not manager.idle() and time.monotonic() < end:
        time.sleep(0.005)
    assert manager.result(asked).rows[0].ppl == WRITTEN
    assert manager.result(asked) == RunStore().get(asked)


def test_a_command_shows_what_it_wrote(capsys, loaded, tmp_path, monkeypatch):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: loaded)
    monkeypatch.setattr(evaluate, "run", lambda *a, **kw: long_digits())
    assert main(["evaluate", "demo", "--length", "16", "--out", str(tmp_path / "new")]) == 0
    assert Evaluation.from_file(tmp_path / "new" / "evaluation.json").rows[0].ppl == WRITTEN
    shown = capsys.readouterr().out
    assert f"{WRITTEN:.3f}" in shown
    assert f"{MEASURED:.3f}" not in shown
