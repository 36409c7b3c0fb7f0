"""A sweep on a tiny model: as single evaluations, stopped and gone on with, shared work counted, failures recorded."""

import csv
import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from qroar_core.errors import BadCheckpoint, BadOutput, Cancelled
from qroar_core.evaluation import run as evaluate
from qroar_core.models import load
from qroar_core.remedies import run as compare
from qroar_core.remedies.result import Comparison
from qroar_core.runs.folder import answers_of
from qroar_core.runs.record import read_record
from qroar_core.specs import ComparisonSpec, EvaluationSpec
from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.cell import Cell, in_groups
from qroar_core.sweeps.sweep_file import sweep_of
from qroar_core.transforms.file import from_file

ASKED = {
    "models": ["tiny"],
    "ropes": [{"method": "yarn", "factor": 2}],
    "quantizers": [{"k": "int4"}, {"kv": "q4_0"}],
    "remedies": ["none", "scales", "rotation", "smooth_attention"],
    "lengths": [64],
    "windows": 2,
}


@pytest.fixture
def model(tiny, monkeypatch):
    """The tiny model, whatever is loaded but `broken`; how often is in `model.loads`."""
    found = tiny(dtype=torch.float32, head_dim=32, layers=2)
    loads = []

    def loaded(name, **options):
        loads.append(name)
        if name == "broken":
            raise BadCheckpoint("no such model", where=name, do="choose another")
        return found

    monkeypatch.setattr(load, "run", loaded)
    return found, loads


def swept(asked, folder, on_step=lambda step: None, cells="cells"):
    return sweeps.run(sweep_of(asked, "here"), folder / "out", cells=folder / cells, on_step=on_step)


def without_seconds(folder):
    with (folder / "out" / "table.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_rows_are_what_single_stages_measure(model, tmp_path):
    loaded, _ = model
    frame = swept(ASKED, tmp_path)
    assert frame["status"].tolist() == ["done"] * 6 + ["failed", "done"]
    plain, without = {}, {}  # KL of windows without a remedy, as a comparison and as an evaluation have it
    for row in frame[frame["status"] == "done"].itertuples():
        quantizer = dict([row.quantizer.split("=")])
        cell = Cell("tiny", {"method": "yarn", "factor": 2}, 64, quantizer, row.remedy, "messages", 0, 2)
        setting, texts = cell.setup.resolve(loaded), cell.setup.texts()
        run = tmp_path / "cells" / row.run
        spec = EvaluationSpec(lengths=(64,), windows=2)
        if row.remedy == "smooth_attention":
            asked = ComparisonSpec(("smooth_attention",), band_scales=False, search=setting.search, windows=2)
            single = compare.run(loaded, setting, asked, texts).as_written()
            reference, mine = single.reference_window_nll, single.rows[1].window_nll
            assert (row.nll, row.nll_reference) == (single.rows[1].nll, single.reference_nll)
            in_file = Comparison.from_file(run / answers_of(run, "compare")[0])  # a comparison alone measures no KL
            kl = in_file.rows[1].window_kl
            assert row.kl == pytest.approx(sum(kl) / 2, rel=1e-5)
            plain[row.quantizer] = in_file.rows[0].window_kl
        else:
            tuned = from_file(run / "scales_found.json", loaded)[0] if row.remedy == "scales" else None
            asked = type(setting)(setting.rope, setting.quant, setting.diagnosis, setting.search, spec)
            single = evaluate.run(loaded, asked, tuned, None, texts["heldout"]).as_written()
            name = {"none": "identity", "scales": "tuned", "rotation": "rotation"}[row.remedy]
            (said,) = [one for one in single.rows if (one.model, one.scales) == ("quantized", name)]
            reference, mine = single.window_nll["64/reference/identity"], single.window_nll[f"64/quantized/{name}"]
            assert (row.nll, row.nll_reference, row.kl) == (said.nll, single.rows[0].nll, said.kl_mean)
            kl = single.window_kl[f"64/quantized/{name}"]
            if row.remedy == "none":
                without[row.quantizer] = kl
        lost = [a - b for a, b in zip(mine, reference)]
        assert row.loss == pytest.approx(sum(lost) / 2, abs=1e-12)
        reach = 12.706204736174694 * abs(lost[0] - lost[1]) / 2  # Student's t of one degree of freedom
        assert row.loss_high - row.loss_low == pytest.approx(2 * reach, rel=1e-9)
        reach = 12.706204736174694 * abs(kl[0] - kl[1]) / 2
        ends = (max(0.0, row.kl - reach), row.kl + reach)
        assert (row.kl_low, row.kl_high) == pytest.approx(ends, rel=1e-4)  # kl_mean_se has six digits in its file
        assert read_record(run).problem == ""
    assert plain == {"k=int4": pytest.approx(without["k=int4"], rel=1e-5), "kv=q4_0": pytest.approx(without["kv=q4_0"])}


def test_bytes_per_token_are_those_of_the_format(model, tmp_path):
    frame = swept(
        ASKED | {"remedies": ["none"], "quantizers": [{"k": "int4"}, {"kv": "q4_0"}, {"k": "none"}]}, tmp_path
    )
    heads = 2 * 2  # layers x KV heads of 32 channels
    int4, full, q4_0 = 16 + 4, 64, 18
    assert frame["bytes_per_token"].tolist() == [heads * (int4 + full), heads * 2 * q4_0, heads * 2 * full]
    assert frame["loss"].tolist()[2] == 0.0


@pytest.mark.slow
def test_layers_that_are_kept_take_their_bytes(model, tmp_path):
    """By hand: a layer has 2 KV heads of 32 + 32 numbers; int4 per token has a float32 step for each K and V."""
    quantizers = [{"kv": "int4"}, {"kv": "int4", "keep_layers": [1]}]
    frame = swept(ASKED | {"quantizers": quantizers, "remedies": ["none"]}, tmp_path)
    heads = model[0].geometry.n_kv_heads
    rounded, exact = heads * 2 * (32 / 2 + 4), heads * 2 * 32 * 2
    assert frame["bytes_per_token"].tolist() == [2 * rounded, rounded + exact]
    asked = {"quantizers": quantizers[:1], "remedies": ["protected_layers", "first_last_layers"]}
    frame = swept(ASKED | asked, tmp_path / "remedies")
    assert frame["bytes_per_token"].tolist() == [2 * exact, 2 * exact]  # two layers at least are kept, and it has two


@pytest.mark.slow
def test_shared_work_is_done_once(model, tmp_path):
    _, loads = model
    asked = ASKED | {"remedies": ["none", "scales", "scales+angles", "transforms", "rotation"]}
    swept(asked, tmp_path)
    counts = json.loads((tmp_path / "out" / "shared.json").read_text())
    assert loads == ["tiny"]
    assert {name: count["made"] for name, count in counts.items() if name != "conditions"} == {
        **{"models": 1, "texts": 1, "references": 1},
        **{"captures": 1, "diagnoses": 2},  # q, k and v are those of the unquantized model
    }
    assert counts["diagnoses"]["taken"] >= 2
    # the reference; int4: plain, rotated, and two for each pair of scales (its transforms are its scales and angles);
    # q4_0, which is rotated already: plain, and two for each of three
    assert counts["conditions"]["made"] == 1 + (2 + 2 * 2) + (1 + 2 * 3)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_goes_on_to_the_same_table(model, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    swept(ASKED, tmp_path / "a")
    for steps in (3, 25, 60):
        left = iter(range(steps))

        def stop(step, left=left):
            if next(left, None) is None:
                raise Cancelled("sweep")

        with pytest.raises(Cancelled):
            swept(ASKED, tmp_path / "b", stop)
    swept(ASKED, tmp_path / "b")
    assert without_seconds(tmp_path / "a") == without_seconds(tmp_path / "b")


def test_what_another_sweep_has_measured_is_read(model, tmp_path, monkeypatch):
    swept(ASKED | {"remedies": ["none", "rotation"], "quantizers": [{"k": "int4"}]}, tmp_path)

    def never(*args, **options):
        raise AssertionError("computed twice")

    monkeypatch.setattr(evaluate, "run", never)
    frame = swept(ASKED | {"remedies": ["rotation", "none"], "quantizers": [{"k": "int4"}]}, tmp_path)
    assert frame["status"].tolist() == ["done", "done"]
    frame = swept(ASKED | {"remedies": ["none"], "quantizers": [{"k": "int3"}]}, tmp_path)
    assert frame["why"].tolist() == ["internal error (AssertionError): computed twice"]


def test_cells_that_fail_are_recorded_and_stop_no_other(model, tmp_path):
    _, loads = model
    asked = ASKED | {"models": ["broken", "tiny"], "quantizers": [{"v": "int4"}], "remedies": ["none", "rotation"]}
    frame = swept(asked, tmp_path)
    assert frame["status"].tolist() == ["failed", "failed", "done", "failed"]
    assert frame["why"].tolist()[:2] == ["broken: no such model; choose another"] * 2
    assert frame["why"].tolist()[3].startswith("rotation: a rotation does not apply; it needs a K cache")
    assert loads == ["broken", "tiny"]


def test_a_budget_leaves_cells_for_the_next_call(model, tmp_path):
    asked = ASKED | {"remedies": ["none"], "budget": {"cells": 1}}
    assert swept(asked, tmp_path)["status"].tolist() == ["done", "not run"]
    assert swept(asked, tmp_path)["status"].tolist() == ["done", "done"]  # finished cells cost nothing
    assert swept(ASKED | {"seeds": [1], "budget": {"minutes": 0}}, tmp_path)["status"].unique().tolist() == ["not run"]


def test_the_parquet_is_the_csv_and_the_report_has_every_cell(model, tmp_path):
    frame = swept(ASKED | {"remedies": ["none"]}, tmp_path)
    one, two = pd.read_csv(tmp_path / "out/table.csv"), pd.read_parquet(tmp_path / "out/table.parquet")
    for name in ("nll", "loss_low", "bytes_per_token", "length", "seed"):
        assert one[name].tolist() == two[name].tolist() == frame[name].tolist()
    report = (tmp_path / "out/report.html").read_text()
    assert all(run in report for run in frame["run"])
    assert "2 cells, 2 done" in report
    assert not any(math.isnan(x) for x in frame["kl"])


def test_a_folder_of_something_else_is_refused(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(BadOutput, match="exists and is not a sweep"):
        swept(ASKED, tmp_path)


def test_cells_of_one_reference_stand_together():
    cells = sweep_of(ASKED | {"seeds": [0, 1], "models": ["a", "b"]}, "here").cells
    groups = list(in_groups(list(cells)))
    assert sorted(map(len, groups)) == [8] * 4
    assert [{(c.model, c.seed) for c in group} for group in groups] == [{("a", 0)}, {("a", 1)}, {("b", 0)}, {("b", 1)}]
    assert [c.quantizer_words for c in groups[0]] == ["k=int4"] * 4 + ["kv=q4_0"] * 4


def test_a_cell_is_plain_data():
    (first, *_) = sweep_of(ASKED, "here").cells
    assert Cell(**json.loads(json.dumps(first.as_dict()))) == first


def test_cells_are_kept_in_a_folder_of_the_user(monkeypatch):
    from qroar_core.sweeps.address import cells_root

    monkeypatch.setenv("QROAR_CELLS", "/shared/cells")
    assert cells_root() == Path("/shared/cells")
