"""Installing a runtime: the line that is shown is what is run, and nothing is left where it fails."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qroar_core.errors import BadOutput
from qroar_core.exporters import install_runtime
from qroar_core.exporters.reader import Reader
from qroar_core.exporters.readers import readers

BESIDE = Reader(1, "One", "1", "a test", ("hf",), worker="w", packages=("one==1.0", "two==2.0"))
OWN = Reader(1, "One", "1", "a test", ("hf",), worker="w", packages=("one==1.0",), own=True, removed=("three",))


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Command lines that would have been run; the first word of one that fails is put into `fails`."""
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path))
    lines, fails = [], []

    def run(line, **_):
        lines.append(line)
        (tmp_path / "runtimes" / "one").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(line, int(line[1] in fails), "", "x\nERROR: no such package\n")

    monkeypatch.setattr(install_runtime.subprocess, "run", run)
    return lines, fails


def test_packages_go_into_a_folder(ran, tmp_path):
    place = f"{tmp_path}/runtimes/one"
    assert install_runtime.installing("one", BESIDE) == f"pip install --no-deps --target {place} one==1.0 two==2.0"
    assert str(install_runtime.install("one", BESIDE)) == place
    line = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", place, "one==1.0", "two==2.0"]
    assert ran[0] == [line]


def test_what_is_imported_here_is_installed_here():
    assert install_runtime.installing("llama_cpp", readers()["llama_cpp"]) == "pip install xllamacpp"


def test_an_environment_of_its_own_loses_what_breaks_it(ran, tmp_path):
    place = f"{tmp_path}/runtimes/one"
    said = f"python -m venv {place} && {place}/bin/pip install one==1.0 && {place}/bin/pip uninstall -y three"
    assert install_runtime.installing("one", OWN) == said
    install_runtime.install("one", OWN)
    assert [" ".join(line).replace(sys.executable, "python") for line in ran[0]] == said.split(" && ")


def test_what_fails_is_one_line_and_leaves_nothing(ran, tmp_path):
    ran[1].append("install")
    with pytest.raises(BadOutput, match=r"cannot be installed \(ERROR: no such package\).*install one==1\.0") as caught:
        install_runtime.install("one", OWN)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runtimes" / "one").exists()
    assert len(ran[0]) == 2


def test_every_runtime_that_is_run_says_what_installs_it():
    for name, one in readers().items():
        assert bool(one.packages) == bool(one.module)
        assert all("==" in package for package in one.packages) or name == "llama_cpp"
