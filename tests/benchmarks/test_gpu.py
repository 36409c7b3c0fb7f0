"""The GPU benchmark by its own code on a CPU, with a model of two layers."""

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import gpu
from qroar_core.errors import OutOfMemory
from qroar_core.models.condition import Condition
from qroar_core.models.stream import Stream
from qroar_core.models.window_losses import measure

TINY = gpu.Shape("tiny", 64, 2, 4, 2, 96, 4096, 64)
CPU = torch.device("cpu")


@pytest.fixture
def quick(monkeypatch):
    """Stages that do nothing; each takes a second by its own clock."""
    clock = [0.0]

    def tick(*args):
        clock[0] += 1.0

    stages = {name: gpu.Stage(stage.passes, tick) for name, stage in gpu.STAGES.items()}
    monkeypatch.setattr(gpu, "STAGES", stages)
    monkeypatch.setattr(gpu.Bench, "_prefill", tick)
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    return stages


def table(capsys):
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    return {(int(row[1]), row[2]): row[3:] for row in rows}


@pytest.mark.slow
def test_every_row_comes_of_a_real_stage(capsys):
    gpu.run([TINY], (128,), CPU, torch.float32, 8.0)
    out = capsys.readouterr().out
    assert "tiny: no stage waits within a pass (128 tokens" in out
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| tiny")]
    assert [(row[1], row[2]) for row in rows] == [
        ("128", stage) for stage in ("transformers' prefill", "diagnosis", "search", "evaluation")
    ]
    assert all(float(row[3]) > 0 for row in rows)
    for row in rows:
        if row[2] != "transformers' prefill":
            assert float(row[5]) > 0


def test_a_ratio_is_of_the_bare_passes_a_stage_needs(quick, capsys):
    gpu.run([TINY], (128,), CPU, torch.float32, 60.0)
    found = table(capsys)
    assert found[128, "transformers' prefill"][0] == "1.00"
    assert found[128, "diagnosis"][:3] == ["1.00", "4.00", "0.25"]  # twice long, twice short
    assert found[128, "search"][:3] == ["1.00", "2.00", "0.50"]
    assert found[128, "evaluation"][:3] == ["1.00", "4.00", "0.25"]


def test_what_the_time_does_not_hold_is_skipped_with_a_line(quick, capsys):
    gpu.run([TINY], (128, 1024), CPU, torch.float32, 0.5)  # 30 s, and 8 times the tokens may take 64
    found = table(capsys)
    assert found[128, "evaluation"][0] == "1.00"
    assert found[1024, "transformers' prefill"][0].startswith("skipped: about 64 s, ")
    assert (1024, "diagnosis") not in found


def test_a_stage_without_room_says_so_and_the_others_go_on(quick, monkeypatch, capsys):
    def full(bench, length):
        raise OutOfMemory("the cache does not fit", where="cpu", do="ask for less")

    monkeypatch.setitem(quick, "search", gpu.Stage(2, full))
    monkeypatch.setattr(gpu.Bench, "waits", lambda self, length: "")
    gpu.run([TINY], (128,), CPU, torch.float32, 60.0)
    found = table(capsys)
    assert found[128, "search"][0].startswith("no room: ")
    assert found[128, "evaluation"][0] == "1.00"


def test_a_prefill_without_room_is_estimated_and_a_failure_is_a_row(quick, monkeypatch, capsys):
    """The tool's own passes go in chunks and may fit where a prefill does not."""
    tick = gpu.Bench._prefill

    def prefill(bench, ids):
        if ids.shape[1] == 1024:
            raise torch.OutOfMemoryError("CUDA out of memory")
        tick(bench, ids)

    def fails(bench, length):
        raise RuntimeError("misaligned address")

    monkeypatch.setattr(gpu.Bench, "_prefill", prefill)
    monkeypatch.setitem(quick, "search", gpu.Stage(2, fails))
    gpu.run([TINY], (128, 1024), CPU, torch.float32, 60.0)
    found = table(capsys)
    assert found[1024, "transformers' prefill"][0] == "no room: CUDA out of memory"
    assert found[1024, "evaluation"][:3] == ["1.00", "256.00", "0.00"]  # 4 passes of 64 times one of 128 tokens
    assert found[128, "search"][0] == "failed: misaligned address"


def test_a_wait_is_named(quick, monkeypatch):
    def waits(bench, length):
        raise RuntimeError("called a synchronizing CUDA operation\nmore")

    monkeypatch.setitem(quick, "diagnosis", gpu.Stage(2, waits))
    bench = gpu.Bench(TINY, gpu.built(TINY, CPU, torch.float32), 60.0)
    assert bench.waits(128) == "diagnosis waits within a pass: called a synchronizing CUDA operation"


def test_waits_are_refused_within_passes_only(tiny, ids, monkeypatch):
    modes, run = [], Stream.run
    monkeypatch.setattr(gpu, "_no_mode", modes.append)
    with gpu.refusing_waits():
        measure(tiny(), Condition(), ids(1, 40), 30, chunk=16)
    assert modes == ["error", "default", "default"]  # the last wait of a pass, and its end
    assert Stream.run is run


def test_without_cuda_one_line_says_so(capsys):
    assert command.main(["gpu", "--minutes", "1"]) == 2
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("gpu: this machine has no CUDA device")
