"""`--polish` on the command line: searched, written, measured, reported, exported and verified; else refused."""

import json

import pytest

from qroar_core.__main__ import main
from tests.cli.command import printed, read, refused

pytestmark = pytest.mark.slow

TIED = ("--rope", "yarn", "--factor", "4", "--tie", "8-11,12-15:0", "--k", "int4")
SMALL = ("--windows", "2", "--length", "256")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "polished"
    options = (*TIED, *SMALL, "--lengths", "256", "--maps", "--polish")
    assert main(["run", "demo", "--out", str(folder), *options]) == 0
    return folder


def test_the_run_has_the_polish_and_says_how_to_repeat_it(finished):
    scales = read(finished, "scales_found.json")
    assert scales["version"] == 6
    assert [(one["first"], one["last"], one["still"]) for one in scales["polish"]] == [(8, 11, False), (12, 15, True)]
    assert '"polish": true' in (finished / "manifest.json").read_text()
    report = read(finished, "search.json")["polish"]
    assert 0 < report["error_left"] < 1
    for tie, polished in zip(report["costs"], report["polished"], strict=True):
        assert (tie["length"], tie["windows"]) == (polished["length"], polished["windows"])
    assert report["polished"][0]["nats"] < report["costs"][0]["nats"]
    assert "--polish" in (finished / "report.html").read_text()
    nll = read(finished, "evaluation.json")["window_nll"]
    assert nll["256/reference/tuned"] != nll["256/reference/identity"]  # it changes the model


def test_export_and_verify_take_the_file(finished, tmp_path, capfd):
    out = tmp_path / "out"
    options = ("--scales", str(finished / "scales_found.json"), "--rope", "yarn", "--factor", "4", "--out", str(out))
    assert main(["export", "demo", *options]) == 0  # it brings the tie that it was searched under
    capfd.readouterr()
    checks = json.loads(printed(capfd, "verify", out, "--json"))
    assert all(check["passed"] is not False for check in checks)


def test_without_a_tie_or_under_another_objective_it_is_refused_in_one_line(tmp_path, capfd):
    line = refused(capfd, "search", "demo", "--k", "int4", *SMALL, "--polish", "--out", tmp_path / "x")
    assert line.startswith(
        "--polish: a polish takes back what tied pairs cost, and no pairs are tied; tie neighbouring"
    )
    line = refused(capfd, "search", "demo", *TIED, *SMALL, "--polish", "--objective", "kl", "--out", tmp_path / "x")
    assert line.startswith("--polish: the kl objective searches no polish of tied pairs")
