"""`predict` on the command line: table, JSON, files, and what is refused before a diagnosis is paid for."""

import json

import pytest

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.prediction.result import Prediction
from tests.cli.command import printed, refused
from tests.helpers import planted_prediction


@pytest.fixture
def asks(stages):
    from qroar_core.evidence.prediction import run as predict

    asked = []

    def fake(loaded, setting, spec, documents, diagnosis, on_step=None):
        asked.append((setting.rope, setting.quant, spec, [d.name for d in documents], diagnosis))
        return planted_prediction.prediction()

    stages.patch(predict, "run", fake)
    return asked


def test_options_become_the_spec_and_the_result_files_and_a_table(capfd, asks, stages, tmp_path):
    from tests.helpers import planted

    diagnosed = []

    def noted(*args, on_step=None, **kw):
        diagnosed.append(args)
        return planted.diagnosis()

    stages.patch(stages.diagnose, "run", noted)
    out = printed(
        capfd,
        "predict",
        "demo",
        "--k",
        "int3",
        "--bands",
        16,
        "--windows",
        5,
        "--length",
        512,
        "--seed",
        3,
        "--out",
        tmp_path / "p",
    )
    ((rope, quant, spec, documents, diagnosis),) = asks
    assert (rope.method, quant.k.bits) == ("yarn", 3)
    assert (spec.length, spec.windows, spec.seed) == (512, 5, 3)
    assert diagnosed[0][1].diagnosis.bands.count == 16
    assert "1900-McKinley-1.txt" in documents  # held out
    assert "1900-McKinley-1.txt" not in [d.name for d in diagnosed[0][2]]
    result = planted_prediction.prediction()
    assert Prediction.from_file(tmp_path / "p" / "prediction.json").findings == result.findings
    assert Diagnosis.from_file(tmp_path / "p" / "diagnosis.json").bands == diagnosis.bands
    rows = [line.split() for line in out.splitlines()]
    assert ["band", "1", "2-3", "+0.02000", "[+0.01857,", "+0.02143]"] in rows
    assert ["largest", "|k|", "(baseline)", "+0.80", "[-0.32,", "+0.99]"] in [row[:6] for row in rows]
    for sentence in (result.headline, *result.findings):
        assert sentence in out


def test_json_holds_everything_but_the_windows(capfd, asks):
    told = json.loads(printed(capfd, "predict", "demo", "--json"))
    assert told["sum"]["ratio"] == pytest.approx(0.82)
    assert "window_nll" not in told
    assert told["headline"].startswith("Interpolation pressure ranks in reverse order")
    assert asks[0][2].windows == 16  # the evaluation's


def test_what_has_no_band_alone_is_refused_before_the_diagnosis(capfd, stages, monkeypatch):
    stages.patch(stages.diagnose, "run", lambda *a, **kw: pytest.fail("diagnosed first"))
    said = refused(capfd, "predict", "demo", "--kv", "int4")
    assert said.startswith("predict: only K and the q and k activations have bands")
    rotated = refused(capfd, "predict", "demo", "--k", "int4", "--kv-rotation", "hadamard")
    assert rotated.endswith("no band is rounded by itself; predict without rotation")


def test_a_folder_that_exists_and_bands_that_do_not_fit_are_refused(capfd, asks, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    assert "already exists" in refused(capfd, "predict", "demo", "--out", tmp_path / "full")
    assert "--bands" in refused(capfd, "predict", "demo", "--bands", 99)
    assert not asks
