"""A reader's process: what it is given, what is made of its answers, and every way in which it can fail to answer.

The interpreter of a place of its own is a shell script here; real ones are asked in tests/exporters/test_runtimes.py.
"""

from __future__ import annotations

import json
import math

import pytest

from qroar_core.errors import BadCheckpoint, BadSpec
from qroar_core.models.runtimes import run
from qroar_core.models.runtimes.run import Answer, Job, ask, is_installed, place_of

JOBS = [Job("some/folder", [5, 6, 7], 2, "a text"), Job("/other", [1], 1)]


@pytest.fixture
def interpreter(tmp_path):
    """`interpreter(commands)` -> a place whose bin/python runs them; $3 is the file of jobs, $4 that of answers."""

    def write(commands):
        place = tmp_path / "place"
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").write_text(f"#!/bin/sh\n{commands}\n")
        (place / "bin" / "python").chmod(0o755)
        return place

    return write


def test_jobs_arrive_and_answers_come_back_in_their_order(interpreter, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.chdir(tmp_path)
    said = {"version": "1.2", "answers": [{"values": [-1, math.nan], "tokens": [3]}, {"error": "ValueError: no"}]}
    (tmp_path / "said.json").write_text(json.dumps(said))
    place = interpreter(
        f'cp "$3" {tmp_path}/asked.json; cp {tmp_path}/said.json "$4"\n'
        f'echo "$1 $2 $HF_HUB_OFFLINE [$PYTHONPATH]" > {tmp_path}/line'
    )
    version, (first, second) = ask("mlx_worker", JOBS, place)
    assert version == "1.2"
    assert (first.values[0], math.isnan(first.values[1]), first.tokens) == (-1.0, True, [3])
    assert second == Answer([], [], "ValueError: no")
    assert json.loads((tmp_path / "asked.json").read_text()) == [
        {"folder": f"{tmp_path}/some/folder", "ids": [5, 6, 7], "first": 2, "text": "a text", "greedy": 0},
        {"folder": "/other", "ids": [1], "first": 1, "text": "", "greedy": 0},
    ]
    option, worker, offline, path = (tmp_path / "line").read_text().split()
    assert (option, offline, path) == ("-P", "1", "[]")  # its own packages, not those of this environment
    assert worker.endswith("qroar_core/models/runtimes/mlx_worker.py")


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("exit 3", "ended without a word"),
        ('echo "Trace" >&2; echo "ImportError: no torch" >&2', "ImportError: no torch"),
    ],
)
def test_a_process_without_answers_is_one_line(interpreter, commands, said):
    with pytest.raises(BadCheckpoint, match=said) as caught:
        ask("mlx_worker", JOBS, interpreter(commands))
    assert "\n" not in str(caught.value)


def test_a_process_that_takes_too_long_is_ended(interpreter, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 0.2)
    with pytest.raises(BadCheckpoint, match=r"longer than 0\.2 s"):
        ask("mlx_worker", JOBS, interpreter("exec sleep 60"))


def test_a_place_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadSpec, match="no such runtime"):
        ask("mlx_worker", JOBS, tmp_path / "nowhere")


def test_where_a_runtime_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path))
    assert place_of("mine") == tmp_path / "runtimes" / "mine"
    assert not is_installed("mine", "no_such_module")
    assert is_installed("mine", "json")  # importable here
    assert not is_installed("mine", "json", here=False)
    (tmp_path / "runtimes" / "mine" / "json").mkdir(parents=True)
    assert is_installed("mine", "json", here=False)
    (tmp_path / "runtimes" / "other" / "bin").mkdir(parents=True)
    (tmp_path / "runtimes" / "other" / "bin" / "python").touch()
    assert is_installed("other", "no_such_module", here=False)
