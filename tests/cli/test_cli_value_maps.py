"""`--value-maps` on the command line: searched, written, measured, reported, exported and verified; else refused."""

import json

import pytest

from qroar_core.__main__ import main
from tests.cli.command import printed, read, refused

pytestmark = pytest.mark.slow

SMALL = ("--windows", "4", "--length", "256", "--k", "int3", "--v", "int3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mixed"
    assert main(["run", "demo", "--out", str(folder), *SMALL, "--value-maps"]) == 0
    return folder


def test_the_run_keeps_the_maps_and_says_how_to_repeat_them(finished):
    scales = read(finished, "scales_found.json")
    assert scales["version"] == 4
    who, maps = scales["model"], scales["value_maps"]
    assert [len(maps), len(maps[0]), len(maps[0][0])] == [who["layers"], who["kv_heads"], who["head_dim"]]
    assert '"value_maps": true' in (finished / "manifest.json").read_text()
    report = read(finished, "search.json")["value_maps"]
    assert 0 < report["error_left"] < 1
    assert sum(report["chosen"].values()) == who["layers"] * who["kv_heads"]
    assert "--value-maps" in (finished / "report.html").read_text()


def test_the_reference_does_not_feel_them_and_the_quantized_model_gains(finished):
    nll = read(finished, "evaluation.json")["window_nll"]
    for plain, tuned in zip(nll["256/reference/identity"], nll["256/reference/tuned"], strict=True):
        assert tuned == pytest.approx(plain, abs=1e-4)
    for before, after in zip(nll["256/quantized/identity"], nll["256/quantized/tuned"], strict=True):
        assert abs(after - before) > 0.01
    decision = read(finished, "search.json")["decision"]  # 32 scored tokens of 4 windows could not show a gain
    assert decision["windows"] * decision["targets"] == 2040
    assert decision["low"] > 0


def test_evaluate_export_and_verify_take_the_file(finished, tmp_path, capfd):
    file = finished / "scales_found.json"
    said = json.loads(printed(capfd, "evaluate", "demo", *SMALL, "--scales", file, "--json"))
    rows = {(row["length"], row["model"], row["scales"]): row["nll"] for row in said["rows"]}
    run = {
        (row["length"], row["model"], row["scales"]): row["nll"] for row in read(finished, "evaluation.json")["rows"]
    }
    for at, nll in rows.items():
        assert nll == pytest.approx(run[at], abs=1e-5)
    for form in ("hf", "gguf-f16"):
        out = tmp_path / form
        assert main(["export", "demo", "--scales", str(file), "--format", form, "--out", str(out)]) == 0
        capfd.readouterr()
        checks = json.loads(printed(capfd, "verify", out, "--json"))
        assert all(check["passed"] is not False for check in checks)
        assert any(check["passed"] for check in checks if "log" in check["question"])


def test_a_search_prints_what_the_maps_leave(tmp_path, capfd):
    said = printed(capfd, "search", "demo", *SMALL, "--value-maps", "--out", tmp_path / "found")
    assert "Value maps can act: the V cache is rounded." in said
    assert "of the error of V's rounding left, mean over layers and KV heads; chosen: " in said


def test_without_a_quantizer_of_v_they_are_refused_in_one_line(tmp_path, capfd):
    line = refused(capfd, "search", "demo", "--k", "int4", "--value-maps", "--out", tmp_path / "x")
    assert line == (
        "--value-maps: value maps help a quantized V cache, and V is not quantized here; quantize V as well, "
        "for example by --v int4, or search without value maps"
    )
    line = refused(capfd, "search", "demo", *SMALL, "--value-maps", "--objective", "kl", "--out", tmp_path / "x")
    assert line.startswith("--value-maps: the kl objective searches no value maps")
