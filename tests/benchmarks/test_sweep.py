"""The benchmark of sweeps: the cells one by one are those of the sweep, and a number of them that the issue names."""

import pytest

from benchmarks import sweep
from qroar_core.errors import BadCheckpoint
from qroar_core.models import load
from qroar_core.sweeps.sweep_file import sweep_of


def test_the_cells_one_by_one_are_those_of_the_sweep():
    cells = sweep_of(sweep.ASKED, "here").cells
    alone = [sweep_of(sweep.sweep_alone(sweep.ASKED, at), "here").cells for at in range(len(cells))]
    assert len(cells) == 24
    assert alone == [(cell,) for cell in cells]


def test_a_cell_that_fails_is_no_measurement(monkeypatch, tmp_path):
    def broken(name, **options):
        raise BadCheckpoint("no such model", where=name, do="choose another")

    monkeypatch.setattr(load, "run", broken)
    with pytest.raises(AssertionError, match="no such model"):
        sweep.swept(sweep.sweep_alone(sweep.ASKED, 0), tmp_path)
