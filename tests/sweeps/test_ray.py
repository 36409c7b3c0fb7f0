"""A sweep by workers of a real local Ray: the table of one process, nothing lost or done twice when a node is lost."""

import csv
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

import qroar_core as qroar
from qroar_core.errors import Cancelled
from qroar_core.progress import no_progress
from qroar_core.runs.folder import UNTUNED
from qroar_core.sweeps.claims import FOLDER, Claims
from qroar_core.sweeps.ray_connection import LOCAL
from qroar_core.sweeps.ray_options import imported_ray

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is an extra; requirements-dev.txt, which CI installs, has it")

SOON = LOCAL | {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}  # a dead node is seen in seconds
STORE = 80 * 2**20  # bytes, the least that Ray takes
NODE = {"num_cpus": 1, "object_store_memory": STORE, "include_log_monitor": False}
PATIENCE = 300.0  # seconds, for a machine that does much else


@pytest.fixture
def asked(tiny, tmp_path, monkeypatch):
    """Eight cells of a tiny model; every process computes with one thread."""
    loaded = tiny(dtype=torch.float32, head_dim=32, layers=2)
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {
        "models": [str(tmp_path / "model")],
        "ropes": [{"method": "yarn", "factor": 2}],
        "quantizers": [{"k": f"int{bits}"} for bits in (2, 3, 4, 5)],
        "remedies": ["none", "rotation"],
        "lengths": [64],
        "windows": 2,
    }
    torch.set_num_threads(threads)


@pytest.fixture
def cluster():
    """Two nodes of one core each; the second one, and what ends both."""
    from ray.cluster_utils import Cluster

    head = {"include_dashboard": False, "_system_config": SOON}
    # Connected before there is a second node: both have one address, and this process must not be the lost one's.
    both = Cluster(initialize_head=True, connect=True, head_node_args=NODE | head)
    try:
        yield both, both.add_node(**NODE)
    finally:
        ray.shutdown()
        both.shutdown()


def table(folder: Path):
    with (folder / "table.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def finished(cells: Path):
    """When the evaluation of each finished cell was written; its folder and manifest are there from the beginning."""
    found = {file.parent.name: file.stat().st_mtime_ns for file in cells.glob(f"*/{UNTUNED}")}
    return {name: when for name, when in found.items() if not (cells / FOLDER / f"{name}.json").exists()}


def holder_on(node, cells: Path):
    """Process number of a worker of this node that holds a claim."""
    for file in (cells / FOLDER).glob("*.json"):
        try:
            pid = json.loads(file.read_text())["pid"]
            if psutil.Process(pid).ppid() == node.all_processes["raylet"][0].process.pid:
                return pid
        except (OSError, ValueError, psutil.Error):  # given back meanwhile
            continue
    return None


def stopped_at_work(node, cells: Path):
    """A worker of this node, stopped while it holds a claim."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pid = holder_on(node, cells)
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
            if holder_on(node, cells) == pid:
                return pid
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)
    raise AssertionError("no worker of the second node holds a claim")


def test_a_node_is_lost_in_the_middle(asked, cluster, tmp_path):
    """Both nodes' workers wait for claims of this process, until it gives them back; one is lost while it holds one."""
    alone = qroar.sweep(asked, tmp_path / "alone", cells=tmp_path / "alone-cells")
    assert alone["status"].tolist() == ["done"] * 8
    both, second = cluster
    cells, lost, before = tmp_path / "cells", [], {}
    claims = [Claims(cells).held(name, no_progress) for name in alone["run"]]
    for claim in claims:
        claim.__enter__()

    def lose_a_node(step):
        if lost or not step.what.startswith("2 at work"):
            return
        for claim in claims:
            claim.__exit__(None, None, None)
        lost.append(stopped_at_work(second, cells))
        before.update(finished(cells))
        both.remove_node(second, allow_graceful=False)

    try:
        qroar.sweep(asked, tmp_path / "ray", cells=cells, address=both.address, cpus=1, on_step=lose_a_node)
    finally:
        for pid in lost:  # stopped, it does not see that its node is gone
            with suppress(ProcessLookupError):  # Ray has ended it
                os.kill(pid, signal.SIGKILL)
    assert lost
    assert len(before) < 8
    assert table(tmp_path / "ray") == table(tmp_path / "alone")
    assert finished(cells).keys() == finished(tmp_path / "alone-cells").keys()
    assert before.items() <= finished(cells).items()  # what was finished by then was not computed again
    assert not list((cells / FOLDER).glob("*.json"))


def test_a_local_ray_is_cancelled_and_goes_on_to_the_table_of_one_process(asked, tmp_path):
    qroar.sweep(asked, tmp_path / "alone", cells=tmp_path / "alone-cells")
    cells, words = tmp_path / "cells", []

    def stop(step):
        words.append(step.what)
        if finished(cells):
            raise Cancelled("sweep")

    with pytest.raises(Cancelled):
        qroar.sweep(asked, tmp_path / "ray", cells=cells, workers=2, cpus=1, on_step=stop)
    assert not ray.is_initialized()
    assert any("int" in one for one in words)  # what workers say of a cell
    assert not list((cells / FOLDER).glob("*.json"))
    before = finished(cells)
    frame = qroar.sweep(asked, tmp_path / "ray", cells=cells, workers=2, cpus=1)
    assert frame["status"].tolist() == ["done"] * 8
    assert before.items() <= finished(cells).items()
    assert table(tmp_path / "ray") == table(tmp_path / "alone")
    counts = json.loads((tmp_path / "ray" / "shared.json").read_text())
    assert counts["models"]["made"] <= 2  # a worker keeps the model from piece to piece
    assert imported_ray() is ray
