"""Wrong values and folders that cannot be written are refused before any model is read, by the option's name."""

from __future__ import annotations

import errno
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import pytest

from qroar_core.cli.register_commands import app
from qroar_core.errors import BadCheckpoint, BadOutput, BadSpec
from qroar_core.models import text_choice as texts
from qroar_core.models.writable import require_writable_folder
from tests.cli.command import refused

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_loading(monkeypatch):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("search", "--error-metric", "logit"),
            "--error-metric: unknown value 'logit'; choose one of logits, output, projected, rows",
        ),
        (
            ("run", "--error-metric", "x"),
            "--error-metric: unknown value 'x'; choose one of logits, output, projected, rows",
        ),
        (
            ("search", "--angles", "--method", "coordinate"),
            "--angles: gradients alone search pair angles; take --method gradient and an objective other than full",
        ),
        (
            ("search", "--l2-penalty", "nan"),
            "--l2-penalty: l2_penalty must be at least 0.0 and finite, got nan; give 0 or more",
        ),
        (("search", "--seed", "-1"), "--seed: must lie in 0 to 4294967295, got -1; give another number"),
        (("evaluate", "--seed", 1 << 32), "--seed: must lie in 0 to 4294967295, got 4294967296; give another number"),
        (
            ("search", "--bounds", "-1:1", "--bands", 2),
            "--bounds: need bounds for 2 bands, got 1; give low:high per band",
        ),
        (
            ("search", "--bounds", "1:2,-1:1"),
            "--bounds: bounds of band 0 must hold 0 and stay within 16 octaves, got 1 to 2; give low <= 0 <= high",
        ),
        (
            ("evaluate", "--stride", 8, "--targets", 12),
            "--stride: 12 targets are no multiple of the stride 8; give another value",
        ),
        (
            ("evaluate", "--stride", 64, "--lengths", "32,64"),
            "--stride: a stride of 64 needs lengths above that, got 32; give another value",
        ),
        (("evaluate", "--scales", "/nowhere/s.json"), "--scales /nowhere/s.json: cannot be read; check the path"),
        (
            ("evaluate", "--rotation-scales", "/nowhere/s.json"),
            "--rotation-scales /nowhere/s.json: cannot be read; check the path",
        ),
        (("controls", "--shuffles", 0), "--shuffles: shuffles must be at least 1 and finite, got 0; give 1 or more"),
        (("controls", "--formats", "int8"), "--formats: unknown number format 'int8'; choose from bfloat16, float16"),
        (
            ("replicate", "--tolerance", "-1"),
            "--tolerance: tolerance must be at least 0.0 and finite, got -1.0; give 0 or more",
        ),
    ],
    ids=lambda x: " ".join(map(str, x)) if isinstance(x, tuple) else "",
)
def test_a_wrong_value_is_refused_by_its_name(capfd, no_loading, arguments, line):
    command, *options = arguments
    assert refused(capfd, command, "demo", *options) == line


COMMANDS = (
    "diagnose",
    "search",
    "evaluate",
    "retrieve",
    "lm-eval",
    "compare",
    "predict",
    "controls",
    "replicate",
    "run",
    "export",
)


def texts_of(command):
    """(name, flag) of every option of a command that takes a text, and of its argument."""
    (one,) = [c for c in app.registered_commands if command in (c.name, c.callback.__name__)]
    for name, parameter in inspect.signature(one.callback).parameters.items():
        kind, *rest = get_args(parameter.annotation) or (None,)
        if kind in (str, str | None):
            yield name, rest[0].default  # typer keeps the first flag there


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize("command", ["info", *COMMANDS])
def test_an_empty_value_is_never_the_default(capfd, no_loading, tmp_path, monkeypatch, command, value):
    monkeypatch.chdir(tmp_path)
    asked = dict(texts_of(command))
    assert {"model", "device"} <= asked.keys()
    assert command == "info" or {"out"} < asked.keys()
    for name, flag in asked.items():
        if name == "model":
            assert refused(capfd, command, value) == "MODEL: is empty; give a value"
        else:
            line = refused(capfd, command, "demo", flag, value)
            assert line == f"{flag}: is empty; give a value, or leave the option out"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["compare", "evaluate", "run"])
def test_a_single_window_is_refused_before_the_model_is_read(capfd, no_loading, command):
    assert "--windows: one window gives no interval" in refused(capfd, command, "demo", "--windows", 1)


SLIPS = {  # of a command that reads a model, and what it says
    "diagnose demo --bands 0": "--bands",
    "compare demo --windows 1": "one window gives no interval",
    "export demo": "--out",
}


def test_a_typing_slip_does_not_cost_the_imports():
    code = (
        "import sys; from qroar_core.__main__ import main\n"
        "for line in sys.argv[1:]: print(main(line.split()), 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *SLIPS], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.splitlines() == ["2 False"] * len(SLIPS)
    for line, words in zip(ran.stderr.splitlines(), SLIPS.values(), strict=True):
        assert words in line


def test_an_empty_argument_is_not_the_folder_one_is_in(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("verify", "fetch"):
        assert refused(capfd, command, "") == "WHAT: is empty; give a value"
    from qroar_core.models.sources import locate

    with pytest.raises(BadCheckpoint, match=r"^model: no name and no path; name one$"):
        locate("")
    with pytest.raises(BadSpec, match=r"--dataset: '' is not NAME"):
        texts.texts_of(dataset="")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_out_below_a_file_is_refused_before_any_work(capfd, no_loading, tmp_path, command):
    (tmp_path / "file").write_text("x")
    line = refused(capfd, command, "demo", "--out", tmp_path / "file" / "o")
    assert line == f"{tmp_path}/file/o: cannot be written (Not a directory); choose another folder"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_out_on_a_disk_that_takes_nothing_is_refused_before_any_work(
    capfd, no_loading, tmp_path, command, monkeypatch
):
    def full(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    line = refused(capfd, command, "demo", "--out", tmp_path / "o")
    assert line == f"{tmp_path}/o: cannot be written (Read-only file system); choose another folder"


def test_a_name_that_no_file_system_takes(capfd, no_loading, tmp_path):
    line = refused(capfd, "evaluate", "demo", "--out", tmp_path / ("x" * 300))
    assert "cannot be written (File name too long)" in line


def test_asking_leaves_nothing_behind(tmp_path):
    require_writable_folder(tmp_path / "a" / "b")
    (tmp_path / "there").mkdir()
    require_writable_folder(tmp_path / "there")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_zero_byte_is_no_path():
    with pytest.raises(BadOutput, match="is no path"):
        require_writable_folder(Path("a\0b"))


@pytest.mark.parametrize("typed", ["file:///tmp/x", "https://example.org/x", "s3://bucket/x"])
def test_an_address_is_no_folder(tmp_path, monkeypatch, typed, capsys):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "export", "demo", "--rope", "yarn", "--factor", "4", "--out", typed)
    assert line.endswith("an address, not a path on this machine; type the path alone")
    assert list(tmp_path.iterdir()) == []
    require_writable_folder(tmp_path / "a:b")
