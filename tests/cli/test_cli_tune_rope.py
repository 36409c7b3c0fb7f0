"""`tune-rope`: what it prints and writes, what another command makes of rope.json, and what it refuses."""

import json
import shutil

import pytest

from qroar_core.__main__ import main
from qroar_core.cli import tables
from qroar_core.errors import Cancelled
from qroar_core.interpolations.rope_file import rope_from_file
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.rope_search import run as stage
from qroar_core.rope_search.result import RopeStudy, RopeTrials, TriedRope
from tests.cli.command import printed, read, refused, stopping

pytestmark = pytest.mark.slow

ROPE = ("--rope", "yarn", "--factor", "4", "--k", "int4")
SMALL = ("--length", "64", "--short-length", "32", "--windows", "2", "--trials", "7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rope") / "D"
    assert main(["tune-rope", "demo", *ROPE, *SMALL, "--out", str(path)]) == 0
    return path


def test_the_folder_holds_the_result_and_the_interpolation_it_keeps(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["rope.json", "tune_rope.json"]
    result = read(folder, "tune_rope.json")
    assert (result["length"], result["short_length"], result["windows"], result["native"]) == (64, 32, 2, 256)
    assert [len(study["trials"]) >= 7 for study in result["studies"]] == [True, True]
    assert result["studies"][0]["trials"][3]["how"] == "setting"
    kept = next(one for one in result["chosen"] if one["choice"] == result["kept"])
    assert rope_from_file(folder / "rope.json") == rope_of_block(kept["rope"])


def test_other_commands_take_such_a_file_as_their_interpolation(tmp_path, capfd):
    (tmp_path / "mine.json").write_text(json.dumps({"method": "linear", "factor": 1.5}))
    out = tmp_path / "checkpoint"
    assert main(["export", "demo", "--rope", str(tmp_path / "mine.json"), "--out", str(out)]) == 0
    capfd.readouterr()
    block = read(out, "config.json")["rope_parameters"]
    assert (block["rope_type"], block["factor"]) == ("linear", 1.5)
    assert "linear x1.5" in (out / "README.md").read_text()
    line = refused(capfd, "diagnose", "demo", "--rope", tmp_path / "mine.json", "--factor", "2")
    assert line.startswith("--factor: ")


def test_the_closing_table_and_json_say_the_verdict(capfd):
    said = json.loads(printed(capfd, "tune-rope", "demo", *ROPE, *SMALL, "--json"))
    assert [(one["choice"], one["quantized"]) for one in said["judged"]][:2] == [
        ("setting", False),
        ("full precision", False),
    ]
    assert "studies" not in said
    shown = printed(capfd, "tune-rope", "demo", *ROPE, *SMALL)
    assert said["sentences"][0] in shown
    assert "64 tokens lie within the native window of 256" in shown
    assert f"{said['judged'][5]['nll']:.4f}" in shown


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--rope", "yarn", "--factor", "4", "--k", "none", "--length", "64"), "tune-rope: nothing is quantized"),
        (("--rope", "default", "--k", "int4", "--length", "64"), "--rope default: the checkpoint's own RoPE has no"),
        ((*ROPE, "--trials", "0"), "--trials: trials must be at least 1"),
        ((*ROPE, "--short-length", "1"), "--short-length: short_length must be at least 2"),
        ((*ROPE, "--windows", "1"), "--windows: one window gives no interval"),
    ],
)
def test_what_cannot_be_searched_is_one_line(more, line, capfd):
    assert refused(capfd, "tune-rope", "demo", *more).startswith(line)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The same search, stopped in its second study."""
    path = tmp_path_factory.mktemp("stopped") / "D"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "progress", lambda: stopping("rope", 30))
        assert main(["tune-rope", "demo", *ROPE, *SMALL, "--out", str(path)]) == 130
    assert [file.name for file in path.iterdir()] == ["rope_trials.json"]
    assert all(study["trials"] for study in read(path, "rope_trials.json")["studies"])
    return path


def test_the_same_command_goes_on_after_ctrl_c(folder, interrupted, tmp_path):
    path = tmp_path / "D"
    shutil.copytree(interrupted, path)
    assert main(["tune-rope", "demo", *ROPE, *SMALL, "--out", str(path)]) == 0
    assert sorted(file.name for file in path.iterdir()) == ["rope.json", "tune_rope.json"]
    assert (path / "rope.json").read_bytes() == (folder / "rope.json").read_bytes()
    one, other = (read(at, "tune_rope.json") for at in (path, folder))
    assert one.pop("seconds") > 0
    del other["seconds"]
    assert one == other


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--k", "int3"), "quantizer"),
        (("--length", "56"), "length of development windows"),
        (("--text", "technical"), "text of development windows"),
        (("--factor", "3"), "interpolation"),
    ],
)
def test_another_command_does_not_go_on_in_that_folder(interrupted, more, what, capfd):
    before = (interrupted / "rope_trials.json").read_bytes()
    line = refused(capfd, "tune-rope", "demo", *ROPE, *SMALL, *more, "--out", interrupted)
    assert line == (
        f"{interrupted / 'rope_trials.json'}: the trials were measured with another {what}; "
        "choose a new folder or the same options"
    )
    assert (interrupted / "rope_trials.json").read_bytes() == before


def test_trials_that_cannot_be_gone_on_with_are_refused_before_the_model_is_read(interrupted, tmp_path, capfd):
    path = tmp_path / "rope_trials.json"
    older = read(interrupted, "rope_trials.json")
    del older["measured_under"]
    for text, words in ((json.dumps(older), "of an older version"), ("{", "not JSON")):
        path.write_text(text)
        line = refused(capfd, "tune-rope", "no such model", *ROPE, "--out", tmp_path)
        assert line.startswith(f"{path}: ")
        assert words in line
    (tmp_path / "notes.txt").write_text("mine")
    assert refused(capfd, "tune-rope", "demo", *ROPE, "--out", tmp_path) == (
        f"{tmp_path}: already exists; choose a new folder"
    )


def test_after_ctrl_c_what_was_tried_is_there(tmp_path, monkeypatch, capfd):
    tried = TriedRope(rope={"method": "linear", "factor": 4.0}, how="published", nll=2.0)

    def stopped(*_, **__):
        raise Cancelled("rope", RopeTrials(studies=[RopeStudy(quantized=False, trials=[tried])]))

    monkeypatch.setattr(stage, "run", stopped)
    assert main(["tune-rope", "demo", *ROPE, *SMALL, "--out", str(tmp_path / "D")]) == 130
    assert "rope_trials.json keeps what was measured; repeat the command to go on" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "D").iterdir()] == ["rope_trials.json"]
    assert RopeTrials.from_file(tmp_path / "D" / "rope_trials.json").studies[0].trials == [tried]
