"""Leagues, controls, claims and predictions on the shelf: each found again by its very question, also after a kill."""

import json
from dataclasses import replace

import pytest
from test_library import YARN, keys, outcome

from pages.parts.work import controlling, predicting, ranking, replicating
from qroar_core.jobs import Manager
from qroar_core.models.scales_file import temporary_prefix
from qroar_core.result import rounded
from qroar_core.results import Manifest
from qroar_core.runs.entry import read_entry
from qroar_core.runs.folder import SEVERAL
from qroar_core.runs.library import Library, run_name, runs_root
from qroar_core.specs import (
    BandSpec,
    ControlSpec,
    LeagueSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RopeSpec,
)
from tests.figures import planted, planted_evidence, planted_league, planted_prediction

K4, K3 = QuantSpec(k=QuantizerSpec(4)), QuantSpec(k=QuantizerSpec(3))
PAIRS = ((YARN, K4), (RopeSpec("linear", 2.0), K4))
STAGES = pytest.mark.parametrize("stage", SEVERAL)


RESULTS = {
    "league": planted_league.league, "controls": planted_evidence.controls,
    "replicate": planted_evidence.replication, "predict": planted_prediction.prediction,
}  # fmt: skip


BEHIND = {"controls": {"search": 1.0}}  # stages that a stage's run has besides, with their seconds


def key(stage, loaded, setting, windows=6):
    """The question as its page asks it."""
    return {
        "league": lambda: ranking.key(loaded, setting, LeagueSpec(search=setting.search, windows=windows)),
        "controls": lambda: controlling.key(loaded, setting, outcome(loaded), ControlSpec(windows=windows)),
        "replicate": lambda: replicating.key(loaded, setting, PAIRS, ReplicationSpec(windows=windows)),
        "predict": lambda: predicting.key(loaded, setting, setting.diagnosis, PredictionSpec(windows=windows)),
    }[stage]()


def keep(stage, loaded, setting, windows=6, result=None):
    """Put a planted result on the shelf; returns its key and its file."""
    asked = key(stage, loaded, setting, windows)
    if stage == "controls":  # they belong to a search
        Library().keep(keys(loaded, setting)["search"], loaded, setting, outcome(loaded), 1.0)
    before = set(folder_of(loaded, setting).glob(f"{stage}-*.json"))
    Library().keep(asked, loaded, setting, result or RESULTS[stage](), 2.0)
    (file,) = set(folder_of(loaded, setting).glob(f"{stage}-*.json")) - before
    return asked, file


def folder_of(loaded, setting):
    """Where the dashboard keeps this run."""
    return runs_root() / run_name(loaded, setting)


def content(result):
    return rounded(result.model_dump())


@STAGES
def test_what_is_kept_comes_back_equal_from_another_library_and_manager(root, loaded, setting, stage):
    asked, file = keep(stage, loaded, setting)
    assert content(Library().get(asked)) == content(RESULTS[stage]())
    jobs = Manager(shelf=Library().get)
    assert jobs.snapshot(asked).state == "done"
    assert content(jobs.result(asked)) == content(RESULTS[stage]())
    digest = file.stem.removeprefix(f"{stage}-")
    assert len(digest) == 8
    assert set(digest) <= set("0123456789abcdef")
    manifest = Manifest.from_file(file.parent / "manifest.json")
    assert manifest.stages == {stage: 2.0} | BEHIND.get(stage, {})
    assert Library().get((*asked[:2], "cuda:0", *asked[3:])) is not None  # the device asks nothing


@STAGES
def test_another_question_of_the_same_run_is_not_answered(root, loaded, setting, stage):
    keep(stage, loaded, setting)
    assert Library().get(key(stage, loaded, setting, windows=7)) is None
    other = {
        "league": lambda: ranking.key(
            loaded, setting, LeagueSpec(search=replace(setting.search, kappa0=3.0), windows=6)
        ),
        "controls": lambda: controlling.key(loaded, setting, outcome(loaded), ControlSpec(windows=6, seeds=(1,))),
        "replicate": lambda: replicating.key(loaded, setting, PAIRS[:1], ReplicationSpec(windows=6)),
        "predict": lambda: predicting.key(
            loaded, setting, replace(setting.diagnosis, bands=BandSpec(4)), PredictionSpec(windows=6)
        ),
    }[stage]()
    assert Library().get(other) is None
    assert Library().get((*key(stage, loaded, setting), "scales by hand")) is None


@STAGES
def test_another_setting_model_or_text_is_not_answered(root, loaded, setting, stage, tiny):
    keep(stage, loaded, setting)
    others = [
        replace(setting, rope=replace(YARN, factor=3.0)),
        replace(setting, quant=K3),
        replace(setting, text="technical"),
    ]
    if stage in ("controls", "replicate"):  # what the key takes from the setting and no spec of its own repeats
        others.append(replace(setting, search=replace(setting.search, seed=1)))
        others.append(replace(setting, diagnosis=replace(setting.diagnosis, eps=0.01)))
    for other in others:
        assert Library().get(key(stage, loaded, other)) is None
    assert Library().get(key(stage, tiny(seed=1), setting)) is None
    for other in [other for other in others if other.text == setting.text]:
        Library().keep(key(stage, loaded, setting), loaded, other, RESULTS[stage](), 2.0)
        assert not folder_of(loaded, other).exists()  # no result goes into another setting's run


@STAGES
@pytest.mark.parametrize("left", ["", "{", "[1, 2]", '{"of": "another layout"}', "\xff\xfe"])
def test_a_damaged_file_counts_as_absent(root, loaded, setting, stage, left):
    asked, file = keep(stage, loaded, setting)
    whole = file.read_text()
    file.write_bytes(left.encode("latin-1"))
    assert Library().get(asked) is None
    (entry,) = Library().entries()
    assert entry.problem == ""  # the run itself is as good as before
    missing = json.loads(whole)
    missing.pop("text")  # an older layout
    file.write_text(json.dumps(missing))
    assert Library().get(asked) is None
    Library().keep(asked, loaded, setting, RESULTS[stage](), 2.0)
    assert file.read_text() == whole


@STAGES
def test_two_questions_live_in_one_run(root, loaded, setting, stage):
    six, first = keep(stage, loaded, setting)
    second = RESULTS[stage]().model_copy(update={"text": "7 windows of other text"})
    seven, file = keep(stage, loaded, setting, windows=7, result=second)
    assert file.parent == first.parent
    assert file != first
    assert (Library().get(six).text, Library().get(seven).text) == (RESULTS[stage]().text, second.text)
    assert read_entry(first.parent).beside() == {stage: {first.name, file.name}}
    assert Manifest.from_file(file.parent / "manifest.json").stages == {stage: 2.0} | BEHIND.get(stage, {})


def test_floats_and_names_ask_what_they_ask_in_a_manifest(root, loaded, setting):
    """Sixth digits are all that a manifest keeps, and a quantizer's display name decides no number."""
    third = replace(setting.search, kappa0=10 / 3)
    asked = ranking.key(loaded, setting, LeagueSpec(search=third))
    Library().keep(asked, loaded, setting, planted_league.league(), 1.0)
    back = LeagueSpec(search=replace(third, kappa0=3.33333))
    assert Library().get(ranking.key(loaded, setting, back)) is not None
    assert Library().get(ranking.key(loaded, setting, LeagueSpec(search=replace(third, kappa0=3.3333)))) is None
    keep("replicate", loaded, setting)
    called = tuple((rope, replace(quant, name="int4 K cache")) for rope, quant in PAIRS)
    assert Library().get(replicating.key(loaded, setting, called, ReplicationSpec(windows=6))) is not None
    turned = PAIRS[::-1]
    assert Library().get(replicating.key(loaded, setting, turned, ReplicationSpec(windows=6))) is None


def test_a_league_is_answered_under_any_budget_of_the_runs_own_search(root, loaded, setting):
    """Its own spec says everything that it searches with; other bands on the Tune page leave it be."""
    asked, _ = keep("league", loaded, setting)
    other = replace(setting, search=replace(setting.search, seed=1))
    spec = asked[-1]
    assert Library().get(ranking.key(loaded, other, spec)) is not None


def test_a_prediction_in_bands_of_its_own_is_kept_beside_that_in_the_runs(root, loaded, setting):
    _, file = keep("predict", loaded, setting)
    finer = replace(setting.diagnosis, bands=BandSpec(4))
    asked = predicting.key(loaded, setting, finer, PredictionSpec(windows=6))
    result = planted_prediction.prediction(bands=4)
    Library().keep(asked, loaded, setting, result, 1.0)
    assert content(Library().get(asked)) == content(result)
    assert len(Library().get(key("predict", loaded, setting)).bands) == 5
    assert len(list(file.parent.glob("predict-*.json"))) == 2


def test_controls_bring_along_the_search_they_belong_to(root, loaded, setting):
    """A run of another evaluation is another folder; the search behind the scales is copied into it."""
    asked = keys(loaded, setting)
    Library().keep(asked["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    Library().keep(asked["search"], loaded, setting, outcome(loaded), 1.0)
    longer = replace(setting, evaluation=replace(setting.evaluation, windows=5))
    _, file = keep("controls", loaded, longer)
    searched = {"diagnosis.json", "search.json", "scales_found.json", "scales_smooth_attention.json", "scales_mad.json"}
    assert {p.name for p in file.parent.iterdir()} == searched | {"manifest.json", file.name}
    for name in searched:
        assert (file.parent / name).read_text() == (folder_of(loaded, setting) / name).read_text()
    for stage, brought in (("league", set()), ("replicate", set()), ("predict", {"diagnosis.json"})):
        alone = replace(longer, evaluation=replace(setting.evaluation, windows=20 + len(stage)))
        _, file = keep(stage, loaded, alone)
        assert {p.name for p in file.parent.iterdir()} == brought | {"manifest.json", file.name}


@STAGES
def test_what_a_killed_write_left_is_swept_and_is_no_result(root, loaded, setting, stage):
    _, file = keep(stage, loaded, setting)
    left = file.parent / f"{temporary_prefix(f'{stage}-0badcafe.json')}x1"
    left.write_text("{")
    assert read_entry(file.parent).beside() == {stage: {file.name}}
    keep(stage, loaded, setting, windows=7)
    assert not left.exists()
    assert file.is_file()


def test_old_runs_hold_nothing_beside_and_each_stage_is_counted(root, loaded, setting):
    Library().keep(keys(loaded, setting)["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    (entry,) = Library().entries()
    assert entry.beside() == {}
    files = {stage: {keep(stage, loaded, setting)[1].name} for stage in SEVERAL}
    (entry,) = Library().entries()
    assert entry.beside() == files
