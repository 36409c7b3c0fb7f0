"""The README's library block as it stands, from the checkout; tests/test_wheel.py runs it from the wheel alone."""

import json

import pytest

import qroar_core as qroar
from qroar_core.__main__ import main
from tests.library.readme import block


@pytest.mark.slow
def test_the_block_finds_scales_that_gain_and_writes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(block(), space)
    found, evaluation = space["found"], space["evaluation"]
    assert found.report.chosen == "found"
    assert evaluation.gain.significant  # the demo's gain, as `run demo` shows it
    assert evaluation.sentence in capsys.readouterr().out
    assert qroar.Transform.load("scales.json") == found.transform
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text())["rope_parameters"]["rope_type"] == "yarn"
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    assert "plotly" in (tmp_path / "noise.html").read_text()
    asked = ("--rope", "yarn", "--factor", "4", "--k", "int4", "--scales", "scales.json", "--json")
    assert main(["evaluate", "demo", *asked]) == 0
    measured = json.loads(capsys.readouterr().out)["gain"]["delta_nll"]  # by the command as by the library
    assert f"{measured:+.4f} nats" in evaluation.sentence
