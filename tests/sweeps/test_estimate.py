"""What a sweep will take, by hand from planted cells, and by its own estimate from a planted model."""

import json

import pytest

from qroar_core.sweeps.cell import Cell
from qroar_core.sweeps.estimate import Estimate, FinishedCell, estimate_of, finished_cells, memory_of
from tests.helpers import planted_sweep

SEARCHED, PLAIN, COMPARED = "settle", "untuned evaluation", "compare"


def cell(remedy="none", length=256, windows=4, model="demo", quantizer=None):
    return Cell(
        model, {"method": "yarn", "factor": 4}, length, quantizer or {"k": "int4"}, remedy, "novels", 0, windows
    )


def test_seconds_go_with_tokens_and_bytes_with_cells():
    """Two plain cells took 0.001 and 0.003 s a token, a searched one 0.01; of comparisons nothing is known."""
    finished = [
        FinishedCell(("demo", PLAIN), 0.001, 1000),
        FinishedCell(("demo", PLAIN), 0.003, 3000),
        FinishedCell(("demo", SEARCHED), 0.010, 9000),
        FinishedCell(("another", COMPARED), 5.0, 1),
    ]
    asked = [cell(), cell("rotation", length=512), cell("scales", windows=None), cell("awq"), cell(model="third")]
    found = estimate_of(asked, finished)
    assert found.seconds == pytest.approx(0.002 * 256 * 4 + 0.002 * 512 * 4 + 0.010 * 256 * 8)
    assert found.disk == pytest.approx(2000 + 2000 + 9000)
    assert (found.cells, found.known) == (3, 3)
    assert estimate_of([cell("awq")], finished) == Estimate()


def test_finished_cells_are_read_from_their_manifests(tmp_path, demo_model):
    """Those of a killed sweep, of other folders and of broken files are left out."""
    from qroar_core.runs.folder import RunFolder

    setting = cell().setup.resolve(demo_model)
    for name, stages in (("done", {PLAIN: 2.0}), ("begun", {"diagnose": 1.0}), ("broken", {})):
        RunFolder.open(tmp_path / name, demo_model, setting, "made by a sweep")
        path = tmp_path / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"stages": stages}))
    (tmp_path / "broken" / "manifest.json").write_text("no json")
    planted_sweep.write_cell(tmp_path / "no manifest", "none", (0.1, 0.2), (2.0, 2.1))
    (tmp_path / "file").write_text("")
    (found,) = finished_cells(tmp_path)
    tokens = setting.evaluation.lengths[-1] * setting.evaluation.windows
    size = sum(file.stat().st_size for file in (tmp_path / "done").iterdir())
    assert (found.alike, found.disk) == (("demo", PLAIN), size)
    assert found.seconds == pytest.approx(2.0 / tokens)
    assert finished_cells(tmp_path / "nothing") == []


def test_memory_is_that_of_the_cell_which_needs_most(tmp_path):
    """A copy of the weights, and q, k and v of a search's text, by the estimate that Ray's workers have."""
    from qroar_core.models.devices import choose_device
    from qroar_core.models.needed_memory import read

    needed = read("demo", choose_device("cpu"), "float32")
    assert memory_of([cell()], "cpu", "float32") == {"demo": needed.of(256)}
    more = [cell(), cell("scales"), cell(quantizer={"weights": "int4"})]
    assert memory_of(more, "cpu", "float32") == {"demo": max(needed.of(256, 1024), needed.of(256, 0, True))}
    gone = [cell(model=str(tmp_path / "gone")), cell(model="some/name-on-the-hub")]
    assert memory_of(gone, "cpu", "float32") == {}
    (tmp_path / "empty").mkdir()
    assert memory_of([cell(model=str(tmp_path / "empty"))], "cpu", "float32") == {}
