"""The run folder: made, resumed, swept, refused, by its own rules (no model is run here)."""

import json
import re
from dataclasses import replace

import pytest

from qroar_core.errors import BadOutput
from qroar_core.interpolations.tie import Tie
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.record import read_record
from qroar_core.setting import default_setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

YARN = RopeSpec("yarn", 2.0)


def opened(path, loaded, rope=YARN, text="messages", command="python -m qroar_core run x"):
    return RunFolder.open(path, loaded, replace(default_setting(loaded, rope), text=text), command)


def test_a_new_folder_holds_its_manifest_at_once(tiny, tmp_path):
    folder = opened(tmp_path / "a" / "b", tiny())
    assert [p.name for p in folder.path.iterdir()] == ["manifest.json"]
    content = json.loads((folder.path / "manifest.json").read_text())
    assert content["specs"]["rope"]["factor"] == 2.0
    assert content["stages"] == {}
    assert content["command"] == "python -m qroar_core run x"


def test_the_same_run_is_taken_up_with_what_it_finished(tiny, tmp_path):
    first = opened(tmp_path / "run", tiny())
    first.save("report.html", "<html></html>", "report", 1.23456)
    again = opened(tmp_path / "run", tiny(), command="another spelling")
    assert again.manifest.stages == {"report": 1.235}
    assert again.manifest.command == "python -m qroar_core run x"
    again.save("search.json", "{}", "search", 2.0)
    assert Manifest.from_file(again.path / "manifest.json").stages == {"report": 1.235, "search": 2.0}


def test_an_empty_folder_is_as_good_as_none(tiny, tmp_path):
    assert opened(tmp_path, tiny()).path == tmp_path


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rope": RopeSpec("yarn", 3.0)}, "setting (rope, diagnosis, search, evaluation)"),
        ({"rope": RopeSpec("ntk", 2.0)}, "setting (rope)"),
        ({"text": "technical"}, "text"),
    ],
)
def test_another_run_is_refused(tiny, tmp_path, change, what):
    opened(tmp_path / "run", tiny()).save("report.html", "<html></html>", "report", 1.0)
    with pytest.raises(BadOutput, match=re.escape(f"holds a run with another {what}; choose a new folder")):
        opened(tmp_path / "run", tiny(), **change)


def test_a_run_of_tied_pairs_is_read_and_taken_up_again_and_another_tie_is_another_run(tiny, tmp_path):
    tied = RopeSpec("yarn", 2.0, tie=(Tie(2, 3, 0.85), Tie(6, 7, 0.0)))
    opened(tmp_path / "run", tiny(), tied).save("report.html", "<html></html>", "report", 1.0)
    assert opened(tmp_path / "run", tiny(), tied).manifest.stages == {"report": 1.0}
    assert read_record(tmp_path / "run", thorough=False).setting.rope == tied
    for other in (YARN, replace(tied, tie=tied.tie[:1])):
        with pytest.raises(BadOutput, match=r"another setting \(rope\)"):
            opened(tmp_path / "run", tiny(), other)


def test_a_run_of_before_there_were_ties_is_taken_up_without_any(tiny, tmp_path):
    first = opened(tmp_path / "run", tiny())
    first.save("report.html", "<html></html>", "report", 1.0)
    assert list(json.loads((first.path / "manifest.json").read_text())["specs"]["rope"]) == [
        *("method", "factor", "original_context", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"),
        *("long_factor", "short_factor"),
    ]
    assert read_record(first.path, thorough=False).setting.rope == YARN
    assert opened(tmp_path / "run", tiny()).manifest.stages == {"report": 1.0}


def test_a_run_of_before_an_option_is_taken_up_at_its_default_and_no_other(tiny, tmp_path):
    """Nulls were drawn once, and the output cost was not asked for, before there was a choice."""
    loaded = tiny()
    opened(tmp_path / "run", loaded).save("report.html", "<html></html>", "report", 1.0)
    path = tmp_path / "run" / "manifest.json"
    noted = json.loads(path.read_text())
    for younger in ("null_draws", "band_cost"):
        del noted["specs"]["diagnosis"][younger]
    path.write_text(json.dumps(noted))
    assert opened(tmp_path / "run", loaded).manifest.stages == {"report": 1.0}
    setting = default_setting(loaded, YARN)
    for asked in ({"null_draws": 8}, {"band_cost": True}):
        more = replace(setting, diagnosis=replace(setting.diagnosis, **asked))
        with pytest.raises(BadOutput, match=re.escape("holds a run with another setting (diagnosis)")):
            RunFolder.open(tmp_path / "run", loaded, more, "x")


def test_a_folder_in_which_nothing_was_finished_is_taken_for_another_run(tiny, tmp_path):
    """A run that was refused (a text too short, a slip in an option) must not block the folder."""
    opened(tmp_path / "run", tiny(), text="technical")
    assert opened(tmp_path / "run", tiny()).manifest.text == "messages"
    assert Manifest.from_file(tmp_path / "run" / "manifest.json").text == "messages"
    (tmp_path / "run" / "search.json").write_text("{}")  # written, and killed before the manifest was
    with pytest.raises(BadOutput, match="another text"):
        opened(tmp_path / "run", tiny(), text="technical")


def test_another_model_or_precision_is_refused(tiny, tmp_path):
    import torch

    opened(tmp_path / "run", tiny()).save("report.html", "<html></html>", "report", 1.0)
    with pytest.raises(BadOutput, match="another model"):
        opened(tmp_path / "run", tiny(seed=1))
    with pytest.raises(BadOutput, match=r"another (model|dtype)"):
        opened(tmp_path / "run", tiny(dtype=torch.float64))


def test_every_spec_decides_whether_it_is_the_same_run(tiny, tmp_path):
    loaded = tiny()
    base = default_setting(loaded, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)))
    same = default_setting(loaded, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)))
    other = default_setting(loaded, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(3)))
    assert base == same
    assert hash(base) == hash(same)
    assert base.as_dict() == same.as_dict() != other.as_dict()


@pytest.mark.parametrize("left", [".manifest.json-x1", ".diagnosis.json-abc", ".report.html-q"])
def test_scraps_of_a_killed_write_are_swept(tiny, tmp_path, left):
    """Also when the kill came before the first manifest was whole."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / left).write_text('{"half')
    opened(folder, tiny())
    assert [p.name for p in folder.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["notes.txt", ".git", ".manifest.jsonx", "diagnosis.json"])
def test_nobody_elses_files_are_touched(tiny, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadOutput, match="exists and is not a run; choose a new folder"):
        opened(tmp_path, tiny())
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {name: "mine"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"versions": {}}'])
def test_a_damaged_manifest_is_named(tiny, tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BadOutput, match=r"manifest\.json: .*; (give|check)"):
        opened(tmp_path, tiny())


def test_an_unfinished_stage_has_no_result(tiny, tmp_path):
    assert opened(tmp_path / "run", tiny()).load("evaluation.json", Manifest) is None


def test_a_run_of_before_there_was_a_choice_of_bos_is_opened_as_one_without(tiny, tmp_path):
    """Its manifest says nothing of BOS, nor of who asked for the windows."""
    from qroar_core.runs.record import read_record

    loaded = tiny()
    opened(tmp_path / "run", loaded).save("report.html", "<html></html>", "report", 1.0)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert "bos" not in manifest["specs"]
    for stage in ("search", "evaluation"):
        del manifest["specs"][stage]["fewer"]
    path.write_text(json.dumps(manifest))
    setting = default_setting(loaded, YARN)
    assert read_record(path.parent).setting == setting
    assert opened(path.parent, loaded).manifest.specs == manifest["specs"]
    with pytest.raises(BadOutput, match=r"another setting \(bos\)"):
        RunFolder.open(path.parent, loaded, replace(setting, bos=True), "python -m qroar_core run x")


def test_bos_is_a_run_of_its_own(tiny):
    from qroar_core.runs.store import run_name

    loaded = tiny()
    plain = default_setting(loaded, YARN)
    with_bos = replace(plain, bos=True)
    assert with_bos.as_dict() == plain.as_dict() | {"bos": True}
    assert run_name(loaded, with_bos) != run_name(loaded, plain)
    assert (plain.reading, with_bos.reading) == ("messages", "messages, windows start with BOS")
    assert (plain.bos_word, with_bos.bos_word) == ("off", "on")
