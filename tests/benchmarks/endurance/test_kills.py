"""Kills at random moments: what a kill leaves is told from what is broken."""

import json
import random
import signal
import subprocess
import sys

import pytest

from benchmarks.endurance import killed_commands
from benchmarks.endurance.killed_commands import KILLED, Killing, Undisturbed, journal
from benchmarks.endurance.whole_files import broken_files, leftovers
from qroar_core.exporters.folder import write_note

WRITER = """
import sys
from pathlib import Path
from qroar_core import __main__
def command(arguments):
    for name in "abc":
        Path(sys.argv[1], name).write_text(name)
    return 0
__main__.main = command
from benchmarks.endurance.victim import main
sys.exit(main(sys.argv[1], int(sys.argv[2]), 0.0, []))
"""


def test_an_export_with_a_cut_file_is_broken_and_a_hidden_one_is_not(tmp_path):
    export = tmp_path / "exported"
    export.mkdir()
    (export / "model.safetensors").write_bytes(b"0123456789")
    write_note(export, {"format": "hf"})
    (tmp_path / ".exported-x1").mkdir()
    assert broken_files(tmp_path) == []
    assert leftovers(tmp_path) == [str(tmp_path / ".exported-x1")]
    (export / "model.safetensors").write_bytes(b"01234")
    (export / "more.json").write_text("{}")
    assert broken_files(tmp_path) == [
        f"{export / 'model.safetensors'}: not as qroar.json has it",
        f"{export / 'more.json'}: not in qroar.json",
    ]
    (export / "model.safetensors").unlink()
    assert f"{export / 'model.safetensors'}: missing" in broken_files(tmp_path)


@pytest.mark.parametrize(("at", "left"), [(1, ""), (2, "a"), (3, "ab"), (0, "abc")])
def test_a_victim_dies_before_the_write_it_was_told(tmp_path, at, left):
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), str(at)], check=False)
    assert done.returncode == (-signal.SIGKILL if at else 0)
    assert "".join(sorted(path.name for path in tmp_path.iterdir())) == left


def test_a_run_folder_that_is_cut_is_broken_and_an_empty_one_is_not(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    assert broken_files(tmp_path) == []
    (run / "diagnosis.json").write_text("{}")
    assert broken_files(tmp_path) == [f"{run}: files without a manifest: diagnosis.json"]
    (run / "manifest.json").write_text('{"versions": {')
    assert "manifest.json" in broken_files(tmp_path)[0]


def test_candidates_of_a_journal_are_those_that_optuna_reads(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "study"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    values = {}
    for name in ("one", "two"):
        study = optuna.create_study(study_name=name, storage=storage)
        for number, value in enumerate((0.5, 0.25)):
            study.tell(study.ask(), value)
            values[str(study._study_id), number] = value
    study.ask()
    assert journal(path) == (values, 1)
    path.write_text(path.read_text() + '{"op_code":6,"trial')  # a kill has cut the line
    assert journal(path) == (values, 1)


@pytest.fixture
def killing(tmp_path, monkeypatch):
    """Kills of a command that is killed twice and then ends; what it leaves is up to the test."""
    monkeypatch.setattr(killed_commands, "COMMANDS", {"run": ()})
    found = Killing(tmp_path, random.Random(0))
    found.undisturbed["run"] = Undisturbed(1.0, ["diagnosis.json"], {"search.json": {"value": 1}})
    found.codes = [KILLED, KILLED, 0]
    return found


def leaves(killing, *writes):
    """The command runs, and each time leaves what the next of `writes` makes in its folder."""
    turns = iter(zip(killing.codes, writes, strict=True))

    def run(kind, folder, at, later, within=None):
        code, write = next(turns)
        (folder / "run").mkdir(exist_ok=True)
        write(folder / "run")
        return code

    killing._run = run
    assert killing.chain("run", 2) == 2
    return {row.what.removeprefix("command line: "): row.violations for row in killing.tallies() if row.violations}


def ends(value):
    def write(run):
        (run.parent / "said.txt").write_text("")
        (run / "search.json").write_text(json.dumps({"value": value, "seconds": random.random()}))

    return write


def nothing(run):
    pass


def test_a_chain_that_comes_to_the_same_numbers_is_fine(killing, monkeypatch):
    monkeypatch.setattr(killed_commands, "broken_files", lambda folder: [])
    assert leaves(killing, nothing, nothing, ends(1)) == {}
    assert killing.resumed.count == 1


def test_other_numbers_a_stage_made_again_and_a_lost_candidate_are_seen(killing, monkeypatch):
    monkeypatch.setattr(killed_commands, "broken_files", lambda folder: [])
    counts = iter([({("0", 0): 1.0, ("0", 1): 2.0}, 1), ({("0", 0): 1.0}, 3)])
    monkeypatch.setattr(killed_commands, "journal", lambda path: next(counts))

    def first(run):
        (run.parent / "study").write_text("")
        (run / "diagnosis.json").write_text("1")

    found = leaves(killing, first, lambda run: (run / "diagnosis.json").write_text("2"), ends(2))
    assert found["a run killed in its search"][0].endswith("diagnosis.json: a finished stage was made again")
    assert "2 candidates begun" not in found["a search with --storage killed"][0]
    assert "finished before and not now: [('0', 1)]" in found["a search with --storage killed"][0]
    (told,) = found["the same command again, to the same numbers"]
    assert told.endswith("other numbers than without a kill: diagnosis.json, search.json")
    assert killing.candidates.worst == "3 candidates lost"
