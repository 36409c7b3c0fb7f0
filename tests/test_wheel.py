"""The wheel alone, installed away from the checkout: the command, the demo model, the texts and the dashboard.

Its dependencies are those of the environment that runs the tests: nothing is downloaded.
"""

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
import venv
from pathlib import Path

import pytest

from qroar_core.__main__ import main

ROOT = Path(__file__).parents[1]
EVALUATE = ["evaluate", "demo", "--lengths", "64", "--windows", "2", "--kv", "int8", "--out"]
START = 120  # seconds


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of commands of an environment with the wheel in it."""
    built, home = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("environment")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built)]
    subprocess.run([*pip, str(ROOT)], check=True, capture_output=True)
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    (where,) = home.glob("lib/*/site-packages")
    (where / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = built.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--no-deps", str(wheel)], check=True, capture_output=True)
    return python.parent


@pytest.fixture
def ask(installed, tmp_path):
    """Runs a command of that environment in an empty folder, where no checkout is on the path."""
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words):
        command = [installed / words[0], *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_the_installed_command_measures_what_the_checkout_measures(ask, installed, tmp_path):
    assert "Usage: qroar [OPTIONS] COMMAND" in ask("qroar", "--help")
    where = ask("python", "-c", "import qroar_core; print(qroar_core.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent)
    ask("qroar", *EVALUATE, "there")
    assert main([*EVALUATE, str(tmp_path / "here")]) == 0
    there, here = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("there", "here"))
    assert [row["nll"] for row in there["rows"]] == [row["nll"] for row in here["rows"]]


@pytest.mark.slow
def test_the_installed_dashboard_is_served(installed, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"QROAR_RUNS": str(tmp_path / "runs")}
    command = [installed / "qroar", "dashboard", "--port", str(port), "--no-browser"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            page, headers = _page(f"http://127.0.0.1:{port}/", server)
        finally:
            server.terminate()
    assert "<title>" in page
    assert headers["X-Frame-Options"] == "DENY"  # its own server, with the guard, and not Streamlit's


def _page(address, server):
    end = time.monotonic() + START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address) as answer:
                return answer.read().decode(), answer.headers
        except OSError:
            time.sleep(0.2)
    pytest.fail("the dashboard did not start")


def test_every_dependency_of_the_wheel_is_tested_at_its_lowest_version():
    """Ranges of pyproject.toml begin at the pinned versions that these tests run with."""
    name_and_version = re.compile(r"^([A-Za-z0-9_-]+)(?:==|>=)([0-9.]+)", re.M)
    pinned = dict(name_and_version.findall((ROOT / "requirements.txt").read_text()))
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert dict(name_and_version.match(one).groups() for one in asked) == pinned
    assert all(",<" in one for one in asked)


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_cannot_be_is_refused_in_one_line(port, capsys):
    assert main(["dashboard", "--port", port]) == 2
    assert capsys.readouterr().err == f"qroar: --port: must lie in 1 to 65535, got {port}; give another number\n"
