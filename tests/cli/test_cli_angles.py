"""`--angles` on the command line: searched, written, measured, reported, exported and verified."""

import json

import pytest

from qroar_core.__main__ import main
from tests.cli.command import printed, read, refused

pytestmark = pytest.mark.slow

SMALL = ("--windows", "2", "--length", "128", "--k", "int3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "turned"
    assert main(["run", "demo", "--out", str(folder), *SMALL, "--angles"]) == 0
    return folder


def test_the_run_keeps_the_angles_and_says_how_to_repeat_them(finished):
    scales = read(finished, "scales_found.json")
    assert scales["version"] == 2
    layers, heads, pairs = scales["model"]["layers"], scales["model"]["kv_heads"], scales["model"]["rotary_dim"] // 2
    assert [len(scales["angles"]), len(scales["angles"][0]), len(scales["angles"][0][0])] == [layers, heads, pairs]
    assert any(a for layer in scales["angles"] for head in layer for a in head)
    assert '"angles": true' in (finished / "manifest.json").read_text()


def test_the_report_shows_them(finished):
    assert "off the axes they had" in (finished / "report.html").read_text()


def test_the_reference_does_not_feel_them_and_the_quantized_model_does(finished):
    nll = read(finished, "evaluation.json")["window_nll"]
    found = read(finished, "scales_found.json")
    assert found["angles"]
    for plain, tuned in zip(nll["128/reference/identity"], nll["128/reference/tuned"], strict=True):
        assert tuned == pytest.approx(plain, abs=1e-4)
    assert nll["128/quantized/tuned"] != nll["128/quantized/identity"]


def test_an_export_carries_them_and_verifies(finished, tmp_path, capfd):
    out = tmp_path / "checkpoint"
    assert main(["export", "demo", "--scales", str(finished / "scales_found.json"), "--out", str(out)]) == 0
    assert "turned by one more angle" in (out / "README.md").read_text()
    capfd.readouterr()
    checks = json.loads(printed(capfd, "verify", out, "--json"))
    assert len(checks) >= 3
    assert [check["passed"] for check in checks] == [True] * len(checks)


def test_other_methods_refuse_them_in_one_line(tmp_path, capfd):
    line = refused(capfd, "search", "demo", *SMALL, "--angles", "--method", "optuna", "--out", tmp_path / "x")
    assert line.startswith("--angles: gradients alone search pair angles; take --method gradient")
