"""The command line under test: run a command, read what it printed, stop it."""

import json
from contextlib import contextmanager

import pytest

from qroar_core.__main__ import main
from qroar_core.errors import Cancelled
from qroar_core.runs import pipeline

FILES = (
    "manifest.json",
    "diagnosis.json",
    "scales_found.json",
    "scales_smooth_attention.json",
    "scales_mad.json",
    "search.json",
    "evaluation.json",
    "scales.json",
    "report.html",
)


def one_line(capfd, code, *arguments):
    """Run the command, which must exit with `code`, print nothing and say one line; returns the line."""
    assert main([str(a) for a in arguments]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("qroar: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err.removeprefix("qroar: ").rstrip("\n")


def refused(capfd, *arguments):
    """Bad input: exit 2 and one line."""
    return one_line(capfd, 2, *arguments)


def printed(capfd, *arguments):
    """Run a command that must succeed without a word on stderr; returns stdout."""
    assert main([str(a) for a in arguments]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out


def leftovers(folder):
    """Anything in a run folder that a run does not promise."""
    return sorted(p.name for p in folder.iterdir() if p.name not in FILES)


@contextmanager
def without_figures():
    """A report of no figure: drawing all of them takes longer than the stages of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "report_html", lambda *_, **__: "<html></html>")
        yield


@contextmanager
def stopping(stage, after):
    """A progress line that stops the work at the `after`-th step of `stage`."""
    seen = 0

    def on_step(step):
        nonlocal seen
        seen += step.stage == stage
        if seen == after:
            raise Cancelled(stage)

    yield on_step


def read(folder, name):
    """A file of a run folder."""
    return json.loads((folder / name).read_text())
