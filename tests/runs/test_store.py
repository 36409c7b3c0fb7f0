"""The store of runs: what goes in comes out equal, only for the same question; hostile folders are refused."""

import errno
import json
from dataclasses import replace

import pytest
import torch

from pages.state.job_key import origin, stage_key
from qroar_core.errors import BadOutput
from qroar_core.result import rounded
from qroar_core.runs import store as shelf_module
from qroar_core.runs.store import RunStore, run_name
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers import planted
from tests.runs.kept import keep_all, keys, outcome

FILES = {
    "manifest.json",
    "diagnosis.json",
    "search.json",
    "scales_found.json",
    "scales_smooth_attention.json",
    "scales_mad.json",
    "evaluation.json",
    "scales.json",
}


def test_what_is_kept_comes_back_equal_from_another_library(root, loaded, setting):
    asked, made = keep_all(loaded, setting)
    again = RunStore()
    assert rounded(again.get(asked["diagnose"]).model_dump()) == rounded(planted.diagnosis().model_dump())
    assert rounded(again.get(asked["evaluate"]).model_dump()) == rounded(planted.evaluation().model_dump())
    back = again.get(asked["search"])
    assert rounded(back.report.model_dump()) == rounded(made.report.model_dump())
    for what in ("found", "kept", "smooth", "mad"):
        mine, theirs = getattr(back, what), getattr(made, what)
        assert torch.equal(mine.g, theirs.g)  # to the last bit
        assert (mine.mode, mine.granularity, mine.bands) == (theirs.mode, theirs.granularity, theirs.bands)
    (folder,) = root.iterdir()
    assert folder.name == run_name(loaded, setting)
    assert {p.name for p in folder.iterdir()} == FILES
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["source"], manifest["stages"]["search"]) == ("tiny-llama", 2.0)
    assert json.loads((folder / "scales.json").read_text())["g"] == made.found.g.tolist()


@pytest.mark.parametrize(("chosen", "significant"), [("identity", True), ("found", False)])
def test_scales_that_are_not_proven_are_not_kept(root, loaded, setting, chosen, significant):
    asked, made = keep_all(loaded, setting, chosen, significant)
    assert RunStore().get(asked["search"]).kept.is_identity == (chosen == "identity")
    (entry,) = RunStore().entries()
    assert {g for layer in entry.kept().g for head in layer for g in head} == {1.0}
    assert torch.equal(RunStore().get(asked["search"]).found.g, made.found.g)


def test_another_question_is_not_answered(root, loaded, setting, tiny):
    asked, _ = keep_all(loaded, setting)
    library, search = RunStore(), setting.search
    others = [
        replace(setting, rope=RopeSpec("yarn", 3.0)),
        replace(setting, quant=QuantSpec(k=QuantizerSpec(3))),
        replace(setting, text="technical"),
        replace(
            setting,
            search=replace(search, seed=1),
            evaluation=EvaluationSpec(lengths=(32,)),
            diagnosis=replace(setting.diagnosis, eps=0.02),
        ),
    ]
    for other in others:
        assert [library.get(key) for key in keys(loaded, other).values()] == [None] * 4
    assert [library.get(key) for key in keys(tiny(seed=1), setting).values()] == [None] * 4
    assert library.get(asked["untuned"]) is None
    assert library.get((*asked["evaluate"], "scales by hand")) is None
    for odd in ((), "key", ("load", "demo", "cpu", "float32"), ("export", "x", "/tmp"), None):
        assert library.get(odd) is None


def test_a_quantizers_display_name_and_the_device_ask_the_same_question(root, loaded, setting):
    keep_all(loaded, setting)
    named = replace(setting, quant=QuantSpec(k=QuantizerSpec(4), name="int4 K cache"))
    asked = keys(loaded, named)["search"]
    elsewhere = (*asked[:2], "cuda:0", *asked[3:])
    assert RunStore().get(elsewhere) is not None
    RunStore().keep(asked, loaded, named, outcome(loaded), 1.0)
    assert len(list(root.iterdir())) == 1


def test_a_key_with_more_in_it_belongs_to_no_run(root, loaded, setting):
    asked = keys(loaded, setting)["evaluate"]
    RunStore().keep((*asked, "scales by hand"), loaded, setting, planted.evaluation(), 1.0)
    RunStore().keep(asked, loaded, replace(setting, search=replace(setting.search, seed=5)), planted.evaluation(), 1.0)
    assert not root.exists()


def test_a_later_run_is_whole_and_an_untuned_evaluation_has_its_own_place(root, loaded, setting):
    asked, _ = keep_all(loaded, setting)
    longer = replace(setting, evaluation=EvaluationSpec(lengths=(32,)))
    RunStore().keep(keys(loaded, longer)["evaluate"], loaded, longer, planted.evaluation(False), 1.0)
    folder = root / run_name(loaded, longer)
    assert {p.name for p in folder.iterdir()} == FILES
    assert (folder / "scales_found.json").read_text() == (
        root / run_name(loaded, setting) / "scales_found.json"
    ).read_text()
    RunStore().keep(asked["untuned"], loaded, setting, planted.evaluation(False), 1.0)
    assert RunStore().get(asked["untuned"]).gain.significant is False
    assert RunStore().get(asked["evaluate"]).gain.significant is True


def test_a_full_disk_is_one_line_and_leaves_no_half_file(root, loaded, setting, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qroar_core.transforms.file.os.fsync", full)
    with pytest.raises(BadOutput, match="No space left on device; free some room"):
        RunStore().keep(keys(loaded, setting)["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    assert [p.name for p in root.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    "name", ["../runs", "..", ".", "", "/etc", "a/b", "a\\b", "x" * 200, "a\0b", "run\n", "~", "-rf", "%2e%2e"]
)
def test_a_hostile_run_name_never_leaves_the_root(root, loaded, setting, name, monkeypatch):
    keep_all(loaded, setting)

    def never(path, thorough=True):
        raise AssertionError(f"read {path}")

    monkeypatch.setattr(shelf_module, "read_record", never)
    with pytest.raises(BadOutput, match="no such run here; see the Runs page"):
        RunStore().entry(name)


def test_broken_and_foreign_folders_are_listed_with_their_line(root, loaded, setting, tmp_path):
    asked, _ = keep_all(loaded, setting)
    good = root / run_name(loaded, setting)
    (root / "notes").mkdir()
    (root / "notes" / "todo.txt").write_text("mine")
    broken = {"half": '{"versions"', "array": "[1, 2]", "empty": ""}
    text = (good / "manifest.json").read_text()
    broken["newer"] = text.replace('"specs": {', '"specs": {"surprise": 1,')
    broken["odd"] = text.replace('"method": "yarn"', '"method": "magic"')
    for name, content in broken.items():
        (root / name).mkdir()
        (root / name / "manifest.json").write_text(content)
    entries = {entry.name: entry for entry in RunStore().entries()}
    assert set(entries) == {good.name, "notes", *broken}
    assert entries[good.name].problem == ""
    for name in ("notes", *broken):
        assert entries[name].setting is None
        assert str(root / name) in entries[name].problem
        assert "\n" not in entries[name].problem
    assert "rope: unknown rope method 'magic'; choose one of default, dynamic" in entries["odd"].problem
    assert "not known here" in entries["newer"].problem
    with pytest.raises(BadOutput, match="not a run"):
        RunStore().entry("notes")
    (good / "evaluation.json").write_text("{}")
    (damaged,) = [entry for entry in RunStore().entries() if entry.name == good.name]
    assert "evaluation.json" in damaged.problem
    assert [RunStore().get(asked[stage]) for stage in ("evaluate", "search", "diagnose")] == [None] * 3


def test_scales_of_another_model_in_a_run_are_not_taken(root, loaded, setting):
    asked, _ = keep_all(loaded, setting)
    path = root / run_name(loaded, setting) / "scales_mad.json"
    path.write_text(path.read_text().replace(loaded.fingerprint, "0" * 16))
    assert RunStore().get(asked["search"]) is None


def test_a_folder_from_elsewhere_answers_only_who_asks_it(root, loaded, setting, tmp_path, tiny):
    asked, _ = keep_all(loaded, setting)
    elsewhere = tmp_path / "from the command line"
    (root / run_name(loaded, setting)).rename(elsewhere)
    library = RunStore()
    entry = library.open(elsewhere)
    assert entry.evaluation().gain.delta_nll == 0.25
    assert library.answer(entry, asked["evaluate"], loaded.fingerprint).gain.delta_nll == 0.25
    assert library.get(asked["evaluate"]) is None  # nothing goes into the store
    assert library.entries() == []
    other = tiny(seed=1)
    assert library.answer(entry, keys(other, setting)["diagnose"], other.fingerprint) is None
    assert library.answer(entry, keys(loaded, setting)["untuned"], loaded.fingerprint) is None
    with pytest.raises(BadOutput, match="not a run"):
        library.open(tmp_path)


def test_a_run_from_before_checksums_answers_nobody_but_who_opened_it(root, loaded, setting):
    asked, _ = keep_all(loaded, setting)
    path = root / run_name(loaded, setting) / "manifest.json"
    said = json.loads(path.read_text())
    assert said.pop("checksum") == loaded.checksum
    path.write_text(json.dumps(said))
    library = RunStore()
    assert [library.get(key) for key in asked.values()] == [None] * 4
    (entry,) = library.entries()
    assert (entry.problem, entry.checksum) == ("", "")
    assert library.answer(entry, asked["evaluate"], loaded.fingerprint).gain.delta_nll == 0.25
    assert library.answer(entry, asked["evaluate"], "0" * 16) is None
    with pytest.raises(BadOutput, match="of an older version, which knows its model by a sample of its weights"):
        library.keep(asked["diagnose"], loaded, setting, planted.diagnosis(), 1.0)


def test_scales_of_another_search_under_the_same_setting_neither_ask_nor_answer(root, loaded, setting):
    asked, made = keep_all(loaded, setting)
    g = made.found.g.clone()
    g[0, 0, 0] *= 1 + 1e-12
    borrowed = replace(made, found=replace(made.found, g=g))
    key = stage_key("evaluate", loaded, setting, setting.evaluation, *origin(setting, borrowed))
    assert RunStore().get(key) is None
    before = {p.name: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    RunStore().keep(key, loaded, setting, planted.evaluation(False), 1.0)
    longer = replace(setting, evaluation=EvaluationSpec(lengths=(32,)))
    key = stage_key("evaluate", loaded, longer, longer.evaluation, *origin(longer, borrowed))
    RunStore().keep(key, loaded, longer, planted.evaluation(False), 1.0)
    assert {p.name: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    assert RunStore().get(asked["evaluate"]).gain.significant is True
