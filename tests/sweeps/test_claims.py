"""Claims of real processes: each work is done once, that of a killed holder by one, other hosts are waited for."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from qroar_core.errors import BadOutput, Cancelled
from qroar_core.progress import no_progress
from qroar_core.sweeps import claims
from qroar_core.sweeps.claims import Claims, Held, Holder, Watch

WORKER = """
import sys, time
from pathlib import Path
from qroar_core.sweeps.claims import Claims, Held
root, go, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
while not go.exists():
    time.sleep(0.001)
left = names
while left:
    held = []
    for name in left:
        if (root / name).exists():
            continue
        try:
            with Claims(root).held(name, lambda step: None):
                if not (root / name).exists():
                    with (root / "log").open("a") as log:
                        log.write(name + "\\n")
                    time.sleep(0.005)
                    (root / name).touch()
        except Held:
            held.append(name)
    left = held
"""
HOLDER = """
import sys, time
from pathlib import Path
from qroar_core.sweeps.claims import Claims
with Claims(Path(sys.argv[1])).held("cell", lambda step: None):
    print("held", flush=True)
    time.sleep(60)
"""
SWEEP = """
import sys, time
from pathlib import Path
import qroar_core as qroar
from qroar_core.evaluation import run as evaluate
root, real = Path(sys.argv[1]), evaluate.run
def noted(loaded, setting, *rest, **named):
    with (root / "log").open("a") as log:
        log.write(f"{setting.quant.k.bits}\\n")
    return real(loaded, setting, *rest, **named)
evaluate.run = noted
qroar.load("demo")
(root / sys.argv[2]).touch()
while not ((root / "a").exists() and (root / "b").exists()):
    time.sleep(0.001)
asked = {
    "models": ["demo"],
    "ropes": [{"method": "yarn", "factor": 2}],
    "quantizers": [{"k": f"int{bits}"} for bits in (2, 3, 4, 5, 6, 8)],
    "lengths": [128],
    "windows": 2,
}
qroar.sweep(asked, root / f"out-{sys.argv[2]}", cells=root / "cells")
"""


def started(script, *words):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(claims.__file__).parents[2])},
        text=True,
    )


def worked(root, names, processes=3):
    """The names in the order in which processes that start together worked on them."""
    workers = [started(WORKER, root, root / "go", *names) for _ in range(processes)]
    (root / "go").touch()
    assert [worker.wait(30) for worker in workers] == [0] * processes
    return (root / "log").read_text().split()


@pytest.fixture
def dead():
    """A process of this host that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Holder(socket.gethostname(), process.pid, 1.0, "2026-12-01T00:00:00+00:00")


def claimed(root, holder, name="cell"):
    file = root / claims.FOLDER / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    names = ("host", "pid", "began", "time", *(["work"] if holder.work else []))
    file.write_text(json.dumps({name: getattr(holder, name) for name in names}))
    return file


@pytest.mark.slow
def test_each_name_is_worked_on_once_by_processes_that_start_together(tmp_path):
    names = [f"n{i}" for i in range(25)]
    assert sorted(worked(tmp_path, names)) == sorted(names)
    assert list((tmp_path / claims.FOLDER).glob("*.json")) == []


@pytest.mark.slow
def test_claims_of_a_dead_process_are_taken_over_by_one(tmp_path, dead):
    names = [f"n{i}" for i in range(25)]
    for name in names:
        claimed(tmp_path, dead, name)
    assert sorted(worked(tmp_path, names)) == sorted(names)


def test_a_process_that_is_killed_gives_its_claim_away(tmp_path):
    holder = started(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Held) as held, Claims(tmp_path).held("cell", no_progress):
        pass
    assert (held.value.holder.pid, held.value.holder.host) == (holder.pid, socket.gethostname())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with Claims(tmp_path).held("cell", no_progress), pytest.raises(Held), Claims(tmp_path).held("cell", no_progress):
        pass
    assert list((tmp_path / claims.FOLDER).glob("*.json")) == []


def test_another_process_of_the_same_number_is_not_taken_for_the_holder(tmp_path):
    mine = claims._me()
    claimed(tmp_path, replace(mine, began=mine.began - 3600))
    with Claims(tmp_path).held("cell", no_progress):
        pass
    claimed(tmp_path, replace(mine, began=mine.began + 1))  # a clock that was set
    with pytest.raises(Held), Claims(tmp_path).held("cell", no_progress):
        pass


def test_a_claim_of_another_host_is_waited_for_until_it_shows_no_sign_of_life(tmp_path, dead, monkeypatch):
    file = claimed(tmp_path, replace(dead, host="elsewhere"))
    with pytest.raises(Held) as held, Claims(tmp_path).held("cell", no_progress):
        pass
    watch, clock = Watch(), [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    watch.look(held.value)
    clock[0] += claims.QUIET - 1
    watch.look(held.value)
    os.utime(file, (1, 1))  # it lives
    clock[0] += 2
    watch.look(held.value)
    clock[0] += claims.QUIET + 1
    said = f"process {dead.pid} on elsewhere, since .* shows no sign of life for 15 minutes; remove this file if it is"
    with pytest.raises(BadOutput, match=said):
        watch.look(held.value)


def test_who_holds_a_claim_touches_it_as_the_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "TOUCH", 0.0)
    said = []
    with Claims(tmp_path).held("cell", said.append) as on_step:
        file = tmp_path / claims.FOLDER / "cell.json"
        os.utime(file, (1, 1))
        on_step("a step")
        assert file.stat().st_mtime > 1e9
    assert said == ["a step"]


def test_waiting_ends_with_the_result_and_can_be_cancelled(tmp_path, dead, monkeypatch):
    claimed(tmp_path, replace(dead, host="elsewhere"))
    monkeypatch.setattr(claims, "POLL", 0.0)
    looks, steps = iter([False, False, True]), []
    with Claims(tmp_path).awaited("cell", "diagnosis", lambda: next(looks), steps.append) as on_step:
        assert on_step is None
    said = f"diagnosis: waiting for process {dead.pid} on elsewhere, since {dead.time}"
    assert [step.what for step in steps] == [said] * 2

    def stop(step):
        raise Cancelled("sweep")

    with pytest.raises(Cancelled), Claims(tmp_path).awaited("cell", "diagnosis", lambda: False, stop):
        pass


def test_without_hard_links_a_claim_is_one_too(tmp_path, monkeypatch):
    def never(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", never)
    with Claims(tmp_path).held("cell", no_progress), pytest.raises(Held), Claims(tmp_path).held("cell", no_progress):
        pass
    with Claims(tmp_path).held("cell", no_progress):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / claims.FOLDER).write_text("")
    said = r"claims.* cannot be written.* give --cells another folder"
    with pytest.raises(BadOutput, match=said), Claims(tmp_path).held("cell", no_progress):
        pass


@pytest.mark.slow
def test_two_processes_that_sweep_one_folder_compute_each_cell_once(tmp_path):
    """They begin together, once both have read the model; the second table is that of the first."""
    sweeps = [started(SWEEP, tmp_path, name) for name in "ab"]
    assert [process.wait(600) for process in sweeps] == [0, 0]
    assert sorted((tmp_path / "log").read_text().split()) == ["2", "3", "4", "5", "6", "8"]
    one, two = (pd.read_csv(tmp_path / f"out-{name}" / "table.csv") for name in "ab")
    assert one["status"].tolist() == ["done"] * 6
    pd.testing.assert_frame_equal(one, two)  # also the seconds, which are those of who computed it


def test_what_ray_gave_to_another_worker_is_taken_over_wherever_it_was(tmp_path, dead):
    """Nobody knows whether a process of another host lives; Ray knows of its workers, and gives their work on."""
    elsewhere = replace(dead, host="elsewhere", work="piece")
    for mine, taken in (("", False), ("other", False), ("piece", True), ("piece.3", True), ("piece3", False)):
        claimed(tmp_path, elsewhere)
        if taken:
            with Claims(tmp_path, mine).held("cell", no_progress):
                assert json.loads((tmp_path / claims.FOLDER / "cell.json").read_text())["work"] == mine
            continue
        with pytest.raises(Held, match="elsewhere"), Claims(tmp_path, mine).held("cell", no_progress):
            pass


def test_a_claim_of_a_worker_is_touched_while_nothing_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "TOUCH", 0.01)
    with Claims(tmp_path, "piece").held("cell", no_progress):
        file = tmp_path / claims.FOLDER / "cell.json"
        os.utime(file, (1, 1))
        until = time.monotonic() + 10
        while file.stat().st_mtime == 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert file.stat().st_mtime > 1e9


def test_a_worker_elsewhere_that_shows_no_sign_of_life_is_taken_over(tmp_path, dead, monkeypatch):
    claimed(tmp_path, replace(dead, host="elsewhere", work="piece"))
    clock, watch = [0.0], Watch()
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    with pytest.raises(Held) as held, Claims(tmp_path, "another").held("cell", no_progress):
        pass
    watch.look(held.value)
    clock[0] += claims.QUIET - 1
    watch.look(held.value)
    assert held.value.file.is_file()
    clock[0] += 2
    watch.look(held.value)
    assert not held.value.file.exists()
