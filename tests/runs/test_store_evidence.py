"""Comparisons, controls, claims and predictions on disk: each found again by its very question, also after a kill."""

import json
from dataclasses import replace

import pytest

from pages import jobs
from pages.jobs import evidence
from qroar_core.jobs import Manager
from qroar_core.result import rounded
from qroar_core.runs.folder import SEVERAL
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.record import read_record
from qroar_core.runs.store import RunStore
from qroar_core.specs import BandSpec, ComparisonSpec, ControlSpec, PredictionSpec, ReplicationSpec, RopeSearchSpec
from qroar_core.transforms.file import temporary_prefix
from tests.helpers import planted, planted_comparison, planted_prediction
from tests.runs.kept import YARN, keys, outcome
from tests.runs.kept_evidence import K3, PAIRS, RESULTS, folder_of, keep, key

STAGES = pytest.mark.parametrize("stage", SEVERAL)


BEHIND = {"controls": {"search": 1.0}}  # stages that a stage's run has besides, with their seconds


def content(result):
    return rounded(result.model_dump())


@STAGES
def test_what_is_kept_comes_back_equal_from_another_library_and_manager(root, loaded, setting, stage):
    asked, file = keep(stage, loaded, setting)
    assert content(RunStore().get(asked)) == content(RESULTS[stage]())
    jobs = Manager(store=RunStore().get)
    assert jobs.snapshot(asked).state == "done"
    assert content(jobs.result(asked)) == content(RESULTS[stage]())
    digest = file.stem.removeprefix(f"{stage}-")
    assert len(digest) == 8
    assert set(digest) <= set("0123456789abcdef")
    manifest = Manifest.from_file(file.parent / "manifest.json")
    assert manifest.stages == {stage: 2.0} | BEHIND.get(stage, {})
    assert RunStore().get((*asked[:2], "cuda:0", *asked[3:])) is not None  # the device asks nothing


@STAGES
def test_another_question_of_the_same_run_is_not_answered(root, loaded, setting, stage):
    keep(stage, loaded, setting)
    assert RunStore().get(key(stage, loaded, setting, windows=7)) is None
    other = {
        "compare": lambda: jobs.compare.key(
            loaded, setting, ComparisonSpec(search=replace(setting.search, max_log2_scale=3.0), windows=6)
        ),
        "controls": lambda: evidence.control.key(loaded, setting, outcome(loaded), ControlSpec(windows=6, seeds=(1,))),
        "replicate": lambda: evidence.replicate.key(loaded, setting, PAIRS[:1], ReplicationSpec(windows=6)),
        "tune_rope": lambda: evidence.tune_rope.key(loaded, setting, RopeSearchSpec(windows=6, trials=9)),
        "predict": lambda: evidence.predict.key(
            loaded, setting, replace(setting.diagnosis, bands=BandSpec(4)), PredictionSpec(windows=6)
        ),
    }[stage]()
    assert RunStore().get(other) is None
    assert RunStore().get((*key(stage, loaded, setting), "scales by hand")) is None


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
        others.append(replace(setting, diagnosis=replace(setting.diagnosis, eps=0.02)))
    for other in others:
        assert RunStore().get(key(stage, loaded, other)) is None
    assert RunStore().get(key(stage, tiny(seed=1), setting)) is None
    for other in [other for other in others if other.text == setting.text]:
        RunStore().keep(key(stage, loaded, setting), loaded, other, RESULTS[stage](), 2.0)
        assert not folder_of(loaded, other).exists()  # no result goes into another setting's run


@STAGES
@pytest.mark.parametrize("left", ["", "{", "[1, 2]", '{"of": "another layout"}', "\xff\xfe"])
def test_a_damaged_file_makes_its_run_unreadable_until_it_is_made_again(root, loaded, setting, stage, left):
    asked, file = keep(stage, loaded, setting)
    whole = file.read_text()
    file.write_bytes(left.encode("latin-1"))
    assert RunStore().get(asked) is None
    (entry,) = RunStore().entries()
    assert f"{file}: " in entry.problem
    assert "\n" not in entry.problem
    missing = json.loads(whole)
    missing.pop("text")  # an older layout
    file.write_text(json.dumps(missing))
    assert RunStore().get(asked) is None
    RunStore().keep(asked, loaded, setting, RESULTS[stage](), 2.0)
    assert file.read_text() == whole
    assert RunStore().entries()[0].problem == ""


@STAGES
def test_two_questions_live_in_one_run(root, loaded, setting, stage):
    six, first = keep(stage, loaded, setting)
    second = RESULTS[stage]().model_copy(update={"text": "7 windows of other text"})
    seven, file = keep(stage, loaded, setting, windows=7, result=second)
    assert file.parent == first.parent
    assert file != first
    assert (RunStore().get(six).text, RunStore().get(seven).text) == (RESULTS[stage]().text, second.text)
    assert read_record(first.parent).beside() == {stage: {first.name, file.name}}
    assert Manifest.from_file(file.parent / "manifest.json").stages == {stage: 2.0} | BEHIND.get(stage, {})


def test_floats_and_names_ask_what_they_ask_in_a_manifest(root, loaded, setting):
    """Sixth digits are all that a manifest keeps, and a quantizer's display name decides no number."""
    third = replace(setting.search, max_log2_scale=10 / 3)
    asked = jobs.compare.key(loaded, setting, ComparisonSpec(search=third))
    RunStore().keep(asked, loaded, setting, planted_comparison.comparison(), 1.0)
    back = ComparisonSpec(search=replace(third, max_log2_scale=3.33333))
    assert RunStore().get(jobs.compare.key(loaded, setting, back)) is not None
    assert (
        RunStore().get(jobs.compare.key(loaded, setting, ComparisonSpec(search=replace(third, max_log2_scale=3.3333))))
        is None
    )
    keep("replicate", loaded, setting)
    called = tuple((rope, replace(quant, name="int4 K cache")) for rope, quant in PAIRS)
    assert RunStore().get(evidence.replicate.key(loaded, setting, called, ReplicationSpec(windows=6))) is not None
    turned = PAIRS[::-1]
    assert RunStore().get(evidence.replicate.key(loaded, setting, turned, ReplicationSpec(windows=6))) is None


def test_a_comparison_is_answered_under_any_budget_of_the_runs_own_search(root, loaded, setting):
    """Its own spec says everything that it searches with; other bands on the Tune page leave it be."""
    asked, _ = keep("compare", loaded, setting)
    other = replace(setting, search=replace(setting.search, seed=1))
    spec = asked[-1]
    assert RunStore().get(jobs.compare.key(loaded, other, spec)) is not None


def test_a_comparison_of_an_older_version_is_found_under_the_name_it_had(root, loaded, setting):
    asked, file = keep("compare", loaded, setting)
    before = file.rename(file.with_name(file.name.replace("compare-", "league-")))
    manifest = file.parent / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"compare"', '"league"'))
    assert content(RunStore().get(asked)) == content(planted_comparison.comparison())
    assert read_record(file.parent).beside() == {"compare": {before.name}}
    before.unlink()
    assert "compare-….json is missing" in read_record(file.parent).problem


def test_a_prediction_in_bands_of_its_own_is_kept_beside_that_in_the_runs(root, loaded, setting):
    _, file = keep("predict", loaded, setting)
    finer = replace(setting.diagnosis, bands=BandSpec(4))
    asked = evidence.predict.key(loaded, setting, finer, PredictionSpec(windows=6))
    result = planted_prediction.prediction(bands=4)
    RunStore().keep(asked, loaded, setting, result, 1.0)
    assert content(RunStore().get(asked)) == content(result)
    assert len(RunStore().get(key("predict", loaded, setting)).bands) == 5
    assert len(list(file.parent.glob("predict-*.json"))) == 2


def test_controls_bring_along_the_search_they_belong_to(root, loaded, setting):
    """A run of another evaluation is another folder; the search behind the scales is copied into it."""
    asked = keys(loaded, setting)
    RunStore().keep(asked["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    RunStore().keep(asked["search"], loaded, setting, outcome(loaded), 1.0)
    longer = replace(setting, evaluation=replace(setting.evaluation, windows=5))
    _, file = keep("controls", loaded, longer)
    searched = {"diagnosis.json", "search.json", "scales_found.json", "scales_smooth_attention.json", "scales_mad.json"}
    assert {p.name for p in file.parent.iterdir()} == searched | {"manifest.json", file.name}
    for name in searched:
        assert (file.parent / name).read_text() == (folder_of(loaded, setting) / name).read_text()
    for other, (stage, brought) in enumerate(
        (("compare", set()), ("replicate", set()), ("predict", {"diagnosis.json"}))
    ):
        alone = replace(longer, evaluation=replace(setting.evaluation, windows=20 + other))
        _, file = keep(stage, loaded, alone)
        assert {p.name for p in file.parent.iterdir()} == brought | {"manifest.json", file.name}


@STAGES
def test_what_a_killed_write_left_is_swept_and_is_no_result(root, loaded, setting, stage):
    _, file = keep(stage, loaded, setting)
    left = file.parent / f"{temporary_prefix(f'{stage}-0badcafe.json')}x1"
    left.write_text("{")
    assert read_record(file.parent).beside() == {stage: {file.name}}
    keep(stage, loaded, setting, windows=7)
    assert not left.exists()
    assert file.is_file()


def test_old_runs_hold_nothing_beside_and_each_stage_is_counted(root, loaded, setting):
    RunStore().keep(keys(loaded, setting)["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    (entry,) = RunStore().entries()
    assert entry.beside() == {}
    files = {stage: {keep(stage, loaded, setting)[1].name} for stage in SEVERAL}
    (entry,) = RunStore().entries()
    assert entry.beside() == files
