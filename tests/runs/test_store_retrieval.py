"""A retrieval on the store: found again by its very spec, with scales and without, and never by another's."""

from dataclasses import replace

import pytest

from pages.state.job_key import stage_key
from qroar_core.result import rounded
from qroar_core.runs.store import RunStore
from tests.helpers import planted
from tests.helpers import planted_retrieval as made
from tests.runs.kept import YARN, keys, outcome


@pytest.fixture
def loaded(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path / "runs"))
    return tiny()


def test_the_last_retrieval_of_a_run_comes_back_and_only_for_its_own_question(loaded, setting, tmp_path):
    origin = (setting.search, setting.diagnosis)
    result = made.retrieval()
    tuned, untuned = (
        stage_key("retrieve", loaded, setting, made.SPEC, *origin),
        stage_key("retrieve", loaded, setting, made.SPEC),
    )
    RunStore().keep(keys(loaded, setting)["search"], loaded, setting, outcome(loaded), 1.0)
    RunStore().keep(keys(loaded, setting)["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    RunStore().keep(tuned, loaded, setting, result, 2.0)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "retrieval.json").is_file()
    assert rounded(RunStore().get(tuned).model_dump()) == rounded(result.model_dump())
    assert RunStore().get(untuned) is None
    RunStore().keep(untuned, loaded, setting, result, 2.0)
    assert (folder / "retrieval_untuned.json").is_file()
    assert RunStore().get(untuned) is not None
    other = replace(made.SPEC, trials=5)
    assert RunStore().get(stage_key("retrieve", loaded, setting, other, *origin)) is None
    RunStore().keep(
        stage_key("retrieve", loaded, setting, other, *origin),
        loaded,
        setting,
        result.model_copy(update={"spec": result.spec | {"trials": 5}}),
        2.0,
    )
    assert RunStore().get(stage_key("retrieve", loaded, setting, other, *origin)) is not None
    assert RunStore().get(tuned) is None  # a run folder has one, the last
    elsewhere = replace(setting, rope=replace(YARN, factor=3.0))
    assert RunStore().get(stage_key("retrieve", loaded, elsewhere, other, *origin)) is None
    (folder / "retrieval.json").write_text("{")
    assert RunStore().get(stage_key("retrieve", loaded, setting, other, *origin)) is None
