"""A model with fewer RoPE pairs than the usual eight bands: every command adapts, and says so."""

from __future__ import annotations

import json

import pytest
import torch

from qroar_core.__main__ import main
from qroar_core.setting import default_setting
from qroar_core.specs import BandSpec, QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales
from tests.cli.command import printed, refused
from tests.pages import visitor

STAGES = {
    "diagnose": ("--length", 128),
    "search": ("--length", 128, "--windows", 2),
    "evaluate": ("--lengths", 64),
    "retrieve": ("--trials", 1, "--lengths", 512),
    "predict": ("--length", 128, "--windows", 2),
    "compare": ("--length", 128, "--windows", 2, "--methods", "rotation", "--no-band-scales"),
    "replicate": ("--length", 128, "--windows", 2),
    "run": ("--length", 128, "--windows", 2),
}
SAID = "qroar: 4 frequency bands, not 8: the model has 4 RoPE pairs a head\n"


@pytest.fixture
def four_pairs(tiny, monkeypatch):
    from qroar_core.models import load

    loaded = tiny(head_dim=8, max_position_embeddings=128)
    monkeypatch.setattr(load, "run", lambda source, on_step=None, **options: loaded)
    return loaded


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_takes_as_many_bands_as_there_are_pairs_and_says_so(capfd, four_pairs, tmp_path, stage):
    assert main([str(a) for a in (stage, "demo", *STAGES[stage], "--out", tmp_path / "o")]) == 0
    out, err = capfd.readouterr()
    assert err == ("" if stage in ("evaluate", "retrieve") else SAID)  # those have no bands
    if stage == "diagnose":
        assert "3 (3-3)" in out
        assert len(json.loads((tmp_path / "o" / "diagnosis.json").read_text())["bands"]) == 4


def test_a_diagnosis_with_scales_in_the_weights(capfd, four_pairs, tmp_path):
    """--scales FILE as `evaluate` takes it: K of every pair is half as large, and the file says so."""
    scales = Scales("symmetric", "kv_head", [(0, 1), (2, 3)], torch.full((2, 2, 2), 2.0, dtype=torch.float64))
    (tmp_path / "s.json").write_text(to_file(four_pairs, RopeSpec(), QuantSpec(), scales).to_json())
    asked = ("diagnose", "demo", "--length", 128, "--bands", 2)
    kept = []
    for name, more in (("plain", ()), ("tuned", ("--scales", tmp_path / "s.json"))):
        printed(capfd, *asked, *more, "--out", tmp_path / name)
        kept.append(json.loads((tmp_path / name / "diagnosis.json").read_text()))
    assert [d["scales_mode"] for d in kept] == [None, "symmetric"]
    peaks = [max(v for row in d["outliers"]["maps"]["k/post"][0][0] for v in row if v is not None) for d in kept]
    assert peaks[1] == pytest.approx(peaks[0] / 2, rel=1e-3)
    line = refused(capfd, *asked, "--scales", tmp_path / "none.json")
    assert "none.json" in line


def test_an_explicit_number_is_taken_or_refused(capfd, four_pairs):
    assert "2 (" not in printed(capfd, "diagnose", "demo", "--length", 128, "--bands", 2)
    line = refused(capfd, "diagnose", "demo", "--length", 128, "--bands", 8)
    assert line.startswith("--bands: ")


def test_bounds_for_the_bands_there_are(capfd, four_pairs, tmp_path):
    arguments = ("search", "demo", "--length", 128, "--windows", 2, "--bounds", "-1:1,-1:1,-1:1,-1:1")
    assert main([str(a) for a in (*arguments, "--out", tmp_path / "o")]) == 0
    capfd.readouterr()
    assert len(json.loads((tmp_path / "o" / "scales.json").read_text())["bands"]) == 4


def test_the_default_never_exceeds_the_pairs(four_pairs, demo_model):
    assert BandSpec.default(4).count == 4
    assert BandSpec.default(64) == BandSpec() == BandSpec(8)
    assert default_setting(four_pairs).diagnosis.bands == default_setting(four_pairs).search.bands == BandSpec(4)
    assert default_setting(demo_model).search.bands == BandSpec(8)


def test_the_start_page_adapts_and_says_so(app, four_pairs):
    visitor.button(app, "Demo model").click().run()
    app = visitor.settled(app)
    assert not app.error
    assert app.number_input(key="bands").value == 4
    assert "This model has 4 RoPE pairs a head, so at most 4 bands." in visitor.texts(app)
    assert "bands" not in app.query_params  # nobody chose them: a larger model gets its own default
    app.number_input(key="bands").set_value(2).run()
    assert "bands" in app.query_params


def test_bad_input_stays_one_line(capfd, four_pairs):
    assert "native window" not in refused(capfd, "diagnose", "demo", "--length", 10_000_000)  # too little text
