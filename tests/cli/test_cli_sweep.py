"""The command `sweep`: what it refuses before any model is read, and where it says so."""

import pytest

from qroar_core.__main__ import main
from qroar_core.models import load
from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.result import SweepRow
from qroar_core.sweeps.table import frame_of
from tests.cli.command import printed, refused

ASKED = "models: [demo]\nropes: [{method: yarn, factor: 4}]\nquantizers: [{k: int4}]\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("a model was read")

    monkeypatch.setattr(load, "run", never)
    path = tmp_path / "sweep.yaml"
    path.write_text(ASKED)
    return path


def test_a_file_with_a_slip_is_named_with_its_key(capfd, file, tmp_path):
    file.write_text(ASKED + "remedy: [none]\n")
    said = refused(capfd, "sweep", file, "--out", tmp_path / "out")
    assert said.startswith(f"{file}: unknown key 'remedy'; choose from models, ropes, lengths, quantizers, remedies,")
    assert not (tmp_path / "out").exists()


def test_the_table_needs_a_folder_of_its_own(capfd, file, tmp_path):
    assert refused(capfd, "sweep", file) == "sweep: where to?; add --out DIR"
    said = refused(capfd, "sweep", file, "--out", tmp_path)
    assert said == f"{tmp_path}: exists and is not a sweep; choose a new folder"
    assert refused(capfd, "sweep", " ", "--out", tmp_path) == "FILE: is empty; give a value"


def done(sweep, out, **options):
    """Every cell but those of a rotation, which fail; the last is left by the budget."""
    measured = {"nll": 2.5, "nll_reference": 2.0, "loss": 0.5, "loss_low": 0.25, "loss_high": 0.75, "kl": 0.125}
    measured |= {"kl_low": 0.0625, "kl_high": 0.1875}
    rows = [SweepRow.of(cell, **measured, bytes_per_token=1234.0, status="done") for cell in sweep.cells[:-1]]
    for at, cell in enumerate(sweep.cells[:-1]):
        if cell.remedy == "rotation":
            rows[at] = SweepRow.of(cell, status="failed", why="rotation: does not apply; choose another")
    return frame_of([*rows, SweepRow.of(sweep.cells[-1], status="not run")])


def test_cells_that_fail_end_it_with_their_number_once_the_table_is_printed(capfd, file, tmp_path, monkeypatch):
    file.write_text(ASKED + "remedies: [none, rotation, scales, smooth_attention]\nseeds: [0, 1]\n")
    monkeypatch.setattr(sweeps, "run", done)
    assert main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 2
    out, err = capfd.readouterr()
    lines = err.splitlines()
    do = f"see the column why of {tmp_path / 'out' / 'table.csv'}, mend or exclude them, and give the command again"
    assert lines[-1] == f"qroar: {file}: 2 of 8 cells failed; {do}"
    said = [line.split() for line in out.splitlines() if line.split()[:1] == ["yarn"]]
    lost, kl = ["+0.500", "[+0.250,", "+0.750]"], ["0.1250", "[0.0625,", "0.1875]"]
    assert said[0] == ["yarn", "4.0", "k=int4", "none", "0", *lost, *kl, "1,234", "done"]
    assert said[2] == ["yarn", "4.0", "k=int4", "rotation", "0", "failed"]
    assert said[-1] == ["yarn", "4.0", "k=int4", "smooth_attention", "1", "not", "run"]
    assert "failed: rotation: does not apply; choose another" in out
    assert {"5 done", "2 failed", "1 not run"} <= set(out.splitlines())


def test_without_a_failed_cell_it_ends_well(capfd, file, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "run", done)
    assert "1 not run" in printed(capfd, "sweep", file, "--out", tmp_path / "out")
