"""`tune-rope`: what it prints and writes, what another command makes of rope.json, and what it refuses."""

import errno
import json
import shutil
import signal
from pathlib import Path

import pytest

from qroar_core.__main__ import main
from qroar_core.cli import tables
from qroar_core.errors import Cancelled
from qroar_core.interpolations.rope_file import rope_from_file
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.rope_search import run as stage
from qroar_core.rope_search.result import RopeStudy, RopeTrials, TriedRope
from qroar_core.transforms import file
from tests.cli.command import printed, read, refused, stopping
from tests.helpers import planted
from tests.helpers.planted_rope_search import rope_search

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
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
    for content, words in (
        (rope_search(), "a search of interpolations, not an interpolation; give the rope.json beside it"),
        (planted.scales(), "a file of scales, not an interpolation; "),
    ):
        (tmp_path / "other.json").write_text(content.to_json())
        line = refused(capfd, "diagnose", "demo", "--rope", tmp_path / "other.json")
        assert line.startswith(f"--rope {tmp_path / 'other.json'}: is {words}")
    (tmp_path / "other.json").write_text(planted.diagnosis().to_json() + " " * 2**20)  # more than an interpolation has
    line = refused(capfd, "diagnose", "demo", "--rope", tmp_path / "other.json")
    assert "is a diagnosis, not an interpolation; open it with qroar.Diagnosis.load" in line
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
        ((*ROPE, "--trials", "0"), "--trials: must be at least 1, got 0; give a larger number"),
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


KILLED = """
import os, signal, sys
from qroar_core.__main__ import main
from qroar_core.rope_search import run as stage

real, begun, last, read = stage.WindowScorer.nll, [], int(sys.argv[1]), sys.argv[2]

def counted(scorer, ids, scales, what):
    if len(begun) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    begun.append(what)
    with open(read, "a") as file:
        print(scorer.quant.is_none, scorer.rope, ids.sum().item(), ids.shape[1], file=file)
    return real(scorer, ids, scales, what)

stage.WindowScorer.nll = counted
sys.exit(main(sys.argv[3:]))
"""


def test_the_same_command_goes_on_after_it_was_killed(folder, forks, tmp_path):
    """Twice killed with no chance to write anything, once while it wrote a file."""
    path, passes = tmp_path / "D", tmp_path / "passes.txt"
    for last, code in ((9, -signal.SIGKILL), (8, -signal.SIGKILL), (-1, 0)):
        words = ["-c", KILLED, str(last), str(passes), "tune-rope", "demo", *ROPE, *SMALL, "--out", str(path)]
        assert forks.run(words, ROOT, ROOT).returncode == code
        if code:
            trials = RopeTrials.from_file(path / "rope_trials.json")
            measured = sum(len(study.trials) for study in trials.studies) + len(trials.heldout)
            assert measured == len(passes.read_text().splitlines())
            (path / ".rope_trials.json-x1y2").write_text("{")  # what a kill within write_atomically leaves
    assert sorted(file.name for file in path.iterdir()) == ["rope.json", "tune_rope.json"]
    lines = passes.read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert (path / "rope.json").read_bytes() == (folder / "rope.json").read_bytes()
    one, other = (read(at, "tune_rope.json") for at in (path, folder))
    del one["seconds"], other["seconds"]
    assert one == other


def test_a_search_that_fails_says_what_it_kept(tmp_path, monkeypatch, capfd):
    path, real, begun = tmp_path / "D", stage.WindowScorer.nll, []

    def full(scorer, ids, scales, what):
        begun.append(what)
        if len(begun) == 4:
            monkeypatch.setattr(file.os, "fsync", no_room)
        return real(scorer, ids, scales, what)

    def no_room(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage.WindowScorer, "nll", full)
    assert main(["tune-rope", "demo", *ROPE, *SMALL, "--out", str(path)]) == 2
    said = capfd.readouterr().err
    assert f"{path / 'rope_trials.json'}: No space left on device; free some room" in said
    assert "rope_trials.json keeps what was measured; repeat the command to go on" in said
    assert [one.name for one in path.iterdir()] == ["rope_trials.json"]
    (study,) = RopeTrials.from_file(path / "rope_trials.json").studies
    assert len(study.trials) == 3


def test_a_folder_with_half_a_file_alone_is_a_new_one(tmp_path, capfd):
    (tmp_path / ".rope_trials.json-x1y2").write_text("{")
    line = refused(capfd, "tune-rope", "no/such/model", *ROPE, "--out", tmp_path)
    assert "already exists" not in line
    (tmp_path / ".other").write_text("mine")
    assert "already exists" in refused(capfd, "tune-rope", "no/such/model", *ROPE, "--out", tmp_path)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--dtype", "bfloat16"), "dtype"),
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
    trial = older["studies"][0]["trials"][0]
    wrong = older | {"studies": [{"quantized": False, "trials": [trial | {"nll": float("nan")}]}]}
    for text, words in (
        (json.dumps(older), "of an older version"),
        ("{", "not JSON"),
        (json.dumps(wrong), "studies.0.trials.0.nll: nan is no NLL"),
        (rope_search().to_json(), "is a search of interpolations, not what a stopped search of interpolations left"),
    ):
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
