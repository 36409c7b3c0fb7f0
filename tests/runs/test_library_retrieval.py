"""A retrieval on the shelf: found again by its very spec, with scales and without, and never by another's."""

from dataclasses import replace

import pytest
from test_library import YARN, keys, outcome

from pages.parts.work.keys import stage_key
from qroar_core.result import rounded
from qroar_core.runs.library import Library
from qroar_core.runs.setting import default_setting
from qroar_core.specs import QuantizerSpec, QuantSpec
from tests.figures import planted
from tests.figures import planted_retrieval as made


@pytest.fixture
def loaded(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path / "runs"))
    return tiny()


def test_the_last_retrieval_of_a_run_comes_back_and_only_for_its_own_question(loaded, tmp_path):
    setting = default_setting(loaded, YARN, QuantSpec(k=QuantizerSpec(4)))
    origin = (setting.search, setting.diagnosis)
    result = made.retrieval()
    tuned, untuned = stage_key("retrieve", loaded, setting, made.SPEC, *origin), stage_key(
        "retrieve", loaded, setting, made.SPEC
    )  # fmt: skip
    Library().keep(keys(loaded, setting)["search"], loaded, setting, outcome(loaded), 1.0)
    Library().keep(keys(loaded, setting)["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    Library().keep(tuned, loaded, setting, result, 2.0)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "retrieval.json").is_file()
    assert rounded(Library().get(tuned).model_dump()) == rounded(result.model_dump())
    assert Library().get(untuned) is None
    Library().keep(untuned, loaded, setting, result, 2.0)
    assert (folder / "retrieval_untuned.json").is_file()
    assert Library().get(untuned) is not None
    other = replace(made.SPEC, trials=5)
    assert Library().get(stage_key("retrieve", loaded, setting, other, *origin)) is None
    Library().keep(stage_key("retrieve", loaded, setting, other, *origin), loaded, setting,
                   result.model_copy(update={"spec": result.spec | {"trials": 5}}), 2.0)  # fmt: skip
    assert Library().get(stage_key("retrieve", loaded, setting, other, *origin)) is not None
    assert Library().get(tuned) is None  # a run folder has one, the last
    elsewhere = replace(setting, rope=replace(YARN, factor=3.0))
    assert Library().get(stage_key("retrieve", loaded, elsewhere, other, *origin)) is None
    (folder / "retrieval.json").write_text("{")
    assert Library().get(stage_key("retrieve", loaded, setting, other, *origin)) is None
