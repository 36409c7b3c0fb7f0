"""The command line's small talk: exit codes, one line on stderr, tables, JSON, faults, a full disk."""

import errno
import json
import os
import re

import pytest

from qroar_core.__main__ import main
from qroar_core.cli import tables
from qroar_core.diagnostics.band_labels import span
from qroar_core.errors import Cancelled
from qroar_core.version import VERSION
from tests.cli.command import FILES, leftovers, one_line, printed, refused


@pytest.fixture
def numbered_planted(stages):
    """Planted results from the figures' tests."""
    from tests.helpers import planted

    return planted


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"]], ids=str)
def test_help_is_help(capfd, arguments):
    out = printed(capfd, *arguments)
    assert "Usage: python -m qroar_core" in out
    commands = ("info", "fetch", "diagnose", "search", "evaluate", "export", "run")
    for command in () if "run" in arguments else commands:
        assert re.search(rf"\b{command}\b", out)


def test_the_version_is_that_of_the_package(capfd):
    assert printed(capfd, "--version") == f"qroar {VERSION}\n"


def test_info_prints_the_sizes(capfd, stages, demo_model):
    out = printed(capfd, "info", "demo")
    sizes = dict(re.findall(r"^\s*(\w+)\s+(\S.*?)\s*$", out, re.MULTILINE))
    geo = demo_model.geometry
    wanted = {
        "n_layers": geo.n_layers,
        "n_kv_heads": geo.n_kv_heads,
        "head_dim": geo.head_dim,
        "original_context": geo.original_context,
        "parameters": geo.parameters,
        "fingerprint": demo_model.fingerprint,
        "checksum": demo_model.checksum,
        "pairing": "half",
        "dtype": "float32",
    }
    assert {name: sizes.get(name) for name in wanted} == {name: str(value) for name, value in wanted.items()}
    told = json.loads(printed(capfd, "info", "demo", "--json"))
    assert {name: told[name] for name in wanted} == wanted


def test_diagnose_json_holds_the_bands_the_table_shows(capfd, stages, numbered_planted, tmp_path):
    bands = json.loads(printed(capfd, "diagnose", "demo", "--json"))
    assert [told["rho_a_k"] for told in bands] == [1.0, 1.425]  # the planted ratios' means over layers and heads
    table = printed(capfd, "diagnose", "demo", "--out", tmp_path / "d")
    wanted = numbered_planted.diagnosis()
    assert any(band.side_peak is None for band in wanted.bands)
    assert [b["index"] for b in bands] == [b.index for b in wanted.bands]
    for told, band in zip(bands, wanted.bands, strict=True):
        assert told["interpolation_pressure"] == pytest.approx(band.interpolation_pressure, rel=1e-5)
        row = next(line for line in table.splitlines() if f"{band.index} ({band.first_pair}-{band.last_pair})" in line)
        shown = [float(word) for word in row.split() if re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", word)]
        assert any(one == pytest.approx(band.interpolation_pressure, rel=5e-3) for one in shown)
        assert row.split()[-1] == ("none" if band.side_peak is None else f"{band.side_peak:.4g}")
        for said in (band.turns, band.logit_change):
            assert any(one == pytest.approx(said, rel=5e-2) for one in shown)  # no more digits than its error leaves
        assert span(band.wavelength_min, band.wavelength_max) in row.split()
    change = wanted.logit_change
    said = re.search(r"move a logit by (\S+) ± (\S+) nats .*upper bound (\S+); with random signs (\S+)\)", table)
    wanted_numbers = (change.in_all, change.in_all_error, change.in_all_bound, change.in_all_null)
    for shown, number in zip(said.groups(), wanted_numbers, strict=True):
        assert float(shown) == pytest.approx(number, abs=change.in_all_error / 2)
    assert len({len(shown.partition(".")[2]) for shown in said.groups()}) == 1  # all to the place of the error
    assert wanted.verdict.reason in table
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["diagnosis.json"]
    kept = json.loads((tmp_path / "d" / "diagnosis.json").read_text())["bands"]
    assert [{name: told[name] for name in band} for told, band in zip(bands, kept, strict=True)] == kept


def test_search_json_holds_what_the_lines_say(capfd, stages, numbered_planted, tmp_path):
    facts = json.loads(printed(capfd, "search", "demo", "--json"))
    lines = printed(capfd, "search", "demo", "--out", tmp_path / "s")
    report = numbered_planted.report()
    assert facts["objective_found"] == pytest.approx(report.objective_found, rel=1e-5)
    assert facts["forward_equivalents"] == pytest.approx(report.forward_equivalents, rel=1e-5)
    assert f"{report.objective_identity:.4g} -> {report.objective_found:.4g}" in lines
    assert f"kept: {facts['chosen']}; {facts['reason']}" in lines
    assert facts["kept_identity"] is False  # the fake search keeps twos
    content = json.loads((tmp_path / "s" / "scales.json").read_text())
    assert content["granularity"] == "kv_head"
    assert {value for layer in content["g"] for head in layer for value in head} == {2.0}


def test_evaluate_json_holds_the_rows_the_table_shows(capfd, stages, numbered_planted):
    told = json.loads(printed(capfd, "evaluate", "demo", "--json"))
    table = printed(capfd, "evaluate", "demo")
    wanted = numbered_planted.evaluation()
    assert len(told["rows"]) == len(wanted.rows)
    for row, mine in zip(told["rows"], wanted.rows, strict=True):
        assert row["nll"] == pytest.approx(mine.nll, rel=1e-5)
        assert any(
            {str(mine.length), mine.model, mine.scales, f"{mine.ppl:.3f}"} <= set(line.split())
            for line in table.splitlines()
        ), mine  # whole words: nothing cut by a narrow table
    assert told["sentence"] == wanted.sentence
    assert wanted.sentence in table


def test_progress_says_nothing_when_nobody_watches(capfd):
    from qroar_core.progress import Step

    with tables.progress() as on_step:
        on_step(Step("diagnose", 1, 2, "half"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["diagnose", "search", "evaluate"])
def test_a_fault_is_one_line_and_exit_1(capfd, stages, monkeypatch, command):
    def broken(*args, **kwargs):
        raise RuntimeError("tensors disagree\nsecond line")

    stages.patch(getattr(stages, command), "run", broken)
    line = one_line(capfd, 1, command, "demo")
    assert line.startswith("internal error: RuntimeError: tensors disagree; set QROAR_DEBUG=1")
    monkeypatch.setenv("QROAR_DEBUG", "1")
    assert main([command, "demo"]) == 1
    err = capfd.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "in broken" in err


@pytest.mark.parametrize("stage", ["diagnose", "search", "evaluate"])
@pytest.mark.parametrize("cause", [KeyboardInterrupt, Cancelled], ids=lambda c: c.__name__)
def test_a_stop_in_a_stage_is_130_and_writes_nothing(capfd, stages, tmp_path, stage, cause):
    def stopped(*args, **kwargs):
        raise cause()

    stages.patch(getattr(stages, stage), "run", stopped)
    assert one_line(capfd, 130, stage, "demo", "--out", tmp_path / "out") == "cancelled"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_only_whole_files(capfd, stages, monkeypatch, tmp_path, name, call):
    real, folder = getattr(os, call), tmp_path / "out"
    opened = os.fdopen
    names = {}

    def remember(handle, *args, **kwargs):
        names[handle] = os.readlink(f"/proc/self/fd/{handle}")
        return opened(handle, *args, **kwargs)

    def full(what, *args):
        path = names.get(what, "") if call == "fsync" else str(args[0])
        if os.path.basename(path).lstrip(".").startswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(what, *args)

    monkeypatch.setattr(os, "fdopen", remember)
    monkeypatch.setattr(os, call, full)
    monkeypatch.setattr("qroar_core.runs.pipeline.report_html", lambda *a, **k: "<html></html>")
    line = refused(capfd, "run", "demo", "--out", folder)
    assert line == f"{folder / name}: No space left on device; free some room or choose another folder"
    assert leftovers(folder) == []
    assert not (folder / name).exists()
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    monkeypatch.setattr(os, call, real)
    assert main(["run", "demo", "--out", str(folder)]) == 0  # room again: the same command ends the run
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)


def test_a_stop_in_the_middle_of_a_write_leaves_no_scrap(capfd, stages, monkeypatch, tmp_path):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    assert one_line(capfd, 130, "diagnose", "demo", "--out", tmp_path / "out") == "cancelled"
    assert list((tmp_path / "out").iterdir()) == []


def test_fetch_of_an_unknown_name_is_refused(capfd, monkeypatch):
    from qroar_core.models import smollm2

    monkeypatch.setattr(smollm2, "fetch", lambda on_step: pytest.fail("went to the network"))
    assert refused(capfd, "fetch", "gpt5") == (
        "cannot fetch 'gpt5'; fetch smollm2; other models: give a folder or a hub id"
    )


def test_the_manifest_repeats_this_command(capfd, stages, monkeypatch, tmp_path):
    monkeypatch.setattr("qroar_core.runs.pipeline.report_html", lambda *a, **k: "<html></html>")
    folder = tmp_path / "my run"
    printed(capfd, "run", "demo", "--out", folder, "--k", "int8")
    command = json.loads((folder / "manifest.json").read_text())["command"]
    assert command == f"python -m qroar_core run demo --out '{folder}' --k int8"


def test_json_of_a_run_is_json_alone(capfd, stages, monkeypatch, tmp_path, numbered_planted):
    monkeypatch.setattr("qroar_core.runs.pipeline.report_html", lambda *a, **k: "<html></html>")
    told = json.loads(printed(capfd, "run", "demo", "--out", tmp_path / "r", "--json"))
    assert told["gain"]["delta_nll"] == pytest.approx(numbered_planted.evaluation().gain.delta_nll, rel=1e-5)


def test_an_edited_text_is_another_run(capfd, stages, monkeypatch, tmp_path):
    monkeypatch.setattr("qroar_core.runs.pipeline.report_html", lambda *a, **k: "<html></html>")
    text = tmp_path / "mine.txt"
    text.write_text("some words " * 100)
    command = ["run", "demo", "--out", tmp_path / "r", "--text", text]
    printed(capfd, *command)
    printed(capfd, *command)
    text.write_text("other words " * 100)
    assert refused(capfd, *command).endswith("holds a run with another text; choose a new folder or the same options")
