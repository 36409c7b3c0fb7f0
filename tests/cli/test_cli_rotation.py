"""`--rotation-scales`: a second search under the rotated quantizer, measured, kept, resumed and reused."""

import json

import pytest

from qroar_core.__main__ import main
from tests.cli.command import printed, read, refused, without_figures

pytestmark = pytest.mark.slow

SMALL = ("--windows", "2", "--length", "128", "--k", "int3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "rotated"
    with without_figures():
        assert main(["run", "demo", "--out", str(folder), *SMALL, "--rotation-scales"]) == 0
    return folder


def test_the_second_search_ran_under_the_rotated_quantizer_and_was_measured_there(finished):
    scales, evaluation = read(finished, "scales_rotation.json"), read(finished, "evaluation.json")
    assert scales["quantization"]["k"]["rotation"] == "hadamard"
    assert read(finished, "scales_found.json")["quantization"]["k"]["rotation"] == "none"
    assert scales["g"] != read(finished, "scales_found.json")["g"]
    nll = evaluation["window_nll"]
    turned, both = nll["128/quantized/rotation"], nll["128/quantized/rotation_tuned"]
    finding = evaluation["rotation"]
    assert finding["added"] == pytest.approx(sum(a - b for a, b in zip(turned, both, strict=True)) / 2, abs=1e-5)
    assert finding["added_ci_low"] < finding["added"] < finding["added_ci_high"]
    assert "scales searched under it" in finding["sentence"]
    assert "search under rotation" in read(finished, "manifest.json")["stages"]


def test_a_resumed_run_does_not_search_again(finished, monkeypatch, capfd):
    from qroar_core.scale_search import run as search

    def never(*args, **kwargs):
        raise AssertionError("searched again")

    before = read(finished, "evaluation.json")
    (finished / "evaluation.json").unlink()
    monkeypatch.setattr(search, "run", never)
    assert main(["run", "demo", "--out", str(finished), *SMALL, "--rotation-scales"]) == 0
    assert read(finished, "evaluation.json") == before
    assert before["rotation"]["sentence"] in capfd.readouterr().out


def test_evaluate_takes_the_file_and_measures_it_under_the_rotation(finished, capfd):
    out = printed(
        capfd,
        "evaluate",
        "demo",
        *SMALL[2:],
        "--lengths",
        "128",
        "--json",
        "--rotation-scales",
        finished / "scales_rotation.json",
    )
    rows = json.loads(out)["rows"]
    assert [row["scales"] for row in rows] == ["identity", "identity", "rotation", "rotation_tuned"]


def test_scales_of_an_unrotated_search_are_not_passed_off_as_rotated(finished, capfd):
    line = refused(capfd, "evaluate", "demo", *SMALL[2:], "--rotation-scales", finished / "scales_found.json")
    assert "scales_found.json: searched under a quantizer without rotation; give it as --scales" in line


@pytest.mark.parametrize("more", [("--kv-rotation", "hadamard"), ("--kv-scale", "channel")])
def test_where_no_rotation_applies_the_run_says_so_at_once(more, tmp_path, capfd):
    line = refused(capfd, "run", "demo", "--out", tmp_path / "x", *SMALL, *more, "--rotation-scales")
    assert "--rotation-scales: a Hadamard rotation does not apply to this K quantizer, or it has one" in line
    assert not (tmp_path / "x").exists()
