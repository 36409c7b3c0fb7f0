"""The wheel alone, installed away from the checkout: the command, the demo model, the texts and the dashboard.

Its dependencies are those of the environment that runs the tests; one test asks for newer ones that its ranges allow.
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
from importlib.metadata import version
from pathlib import Path

import pytest

from qroar_core.__main__ import main
from qroar_core.version import VERSION
from tests.library.readme import block
from tests.test_layout import imported, sources

ROOT = Path(__file__).parents[1]
EVALUATE = ["evaluate", "demo", "--lengths", "64", "--windows", "2", "--kv", "int8", "--out"]
START = 120  # seconds
NAME_AND_VERSION = re.compile(r"^([A-Za-z0-9_-]+)(?:==|>=)([0-9.]+)", re.M)


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
    assert ask("qroar", "--version") == f"qroar {VERSION}\n"
    where = ask("python", "-c", "import qroar_core; print(qroar_core.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent)
    ask("qroar", *EVALUATE, "there")
    assert main([*EVALUATE, str(tmp_path / "here")]) == 0
    there, here = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("there", "here"))
    assert [row["nll"] for row in there["rows"]] == [row["nll"] for row in here["rows"]]


@pytest.mark.slow
def test_the_whole_job_runs_from_the_wheel_alone(ask, tmp_path):
    ask("qroar", "run", "demo", "--windows", "2", "--length", "128", "--out", "whole")
    assert json.loads((tmp_path / "whole" / "scales_found.json").read_text())["format"] == "qroar-scales"
    assert json.loads((tmp_path / "whole" / "evaluation.json").read_text())["gain"]["length"] == 128
    assert (tmp_path / "whole" / "report.html").is_file()


TYPED = """import qroar_core as qroar

model = qroar.load("demo")
setup = qroar.Setup(quantization=qroar.quantization(k="int4"))
reveal_type(qroar.search(model, setup).transform)
reveal_type(qroar.evaluate(model, setup).gain)
qroar.diagnose(model, setup, null_draws="1")
"""


@pytest.mark.slow
def test_a_script_of_a_user_is_checked_against_the_types_of_the_wheel(installed, tmp_path):
    (tmp_path / "script.py").write_text(TYPED)
    large = ["torch", "transformers", "pandas", "plotly", "numpy", "scipy", "optuna"]  # what would take minutes
    skipped = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\nfollow_imports_for_stubs = True\n" for name in large)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nignore_missing_imports = True\n{skipped}")
    mypy = [sys.executable, "-m", "mypy", "--python-executable", str(installed / "python"), "script.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True)
    said = re.findall(r'^script\.py:(\d+): (?:note: Revealed type is "(.*)"|error: .*(\[.*\]))$', done.stdout, re.M)
    assert said == [
        ("5", "qroar_core.library.transform.Transform", ""),
        ("6", "qroar_core.evaluation.result.Gain | None", ""),
        ("7", "", "[arg-type]"),
    ], done.stdout + done.stderr


@pytest.mark.slow
def test_the_installed_dashboard_has_the_glossary_of_its_terms(ask):
    read = "import sys; from qroar_core.bundled import HOME; sys.path.insert(0, str(HOME)); "
    read += "from pages.views.glossary import term_help; print(term_help('Gap recovered'))"
    said = " ".join(ask("python", "-c", read).split())
    assert said.startswith("The gain as a share of the gap.")
    assert said in " ".join((ROOT / "docs" / "glossary.md").read_text().split())


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
    pinned = dict(NAME_AND_VERSION.findall((ROOT / "requirements.txt").read_text()))
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert dict(NAME_AND_VERSION.match(one).groups() for one in asked) == pinned
    assert all(",<" in one for one in asked)


def extras():
    """Extra -> its one requirement."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {name: one for name, (one,) in asked.items()}


def test_the_extras_are_those_that_the_documents_name():
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    named = {
        name
        for text in texts
        for names in re.findall(r"pip install [^`\n]*?\[([a-z, -]+)\]", text)
        for name in names.split(",")
    }
    assert named == set(extras())


@pytest.mark.parametrize("extra", extras())
def test_an_extra_is_what_the_code_imports_at_the_version_that_the_tests_run_with(extra):
    package, lowest = NAME_AND_VERSION.match(extras()[extra]).groups()
    assert dict(NAME_AND_VERSION.findall((ROOT / "requirements-dev.txt").read_text()))[package] == lowest
    assert ",<" in extras()[extra]
    assert any(package in imported(path, source) for path, source in sources())


@pytest.mark.slow
def test_the_wheel_offers_the_extras(ask):
    said = "import json; from importlib.metadata import metadata as of; "
    said += "print(json.dumps(of('qroar-dashboard').get_all('Provides-Extra')))"
    assert json.loads(ask("python", "-c", said)) == sorted(extras())


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_cannot_be_is_refused_in_one_line(port, capsys):
    assert main(["dashboard", "--port", port]) == 2
    assert capsys.readouterr().err == f"qroar: --port: must lie in 1 to 65535, got {port}; give another number\n"


@pytest.mark.slow
def test_the_readmes_library_block_runs_with_the_newest_of_what_the_wheel_allows(installed, tmp_path):
    """All but torch, whose newest brings gigabytes for graphics cards. With the pinned ones: library/test_readme.py."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    ranges = [one for one in asked if not one.startswith("torch")] + [f"torch=={version('torch').partition('+')[0]}"]
    look = [*pip, "--upgrade", "--dry-run", "--report", "-", *ranges]
    found = json.loads(subprocess.run(look, check=True, capture_output=True, text=True).stdout)["install"]
    newer = [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in found]
    if newer:
        subprocess.run([*pip, "--no-deps", "--target", tmp_path / "newest", *newer], check=True, capture_output=True)
    (tmp_path / "block.py").write_text(block())
    done = subprocess.run(
        [installed / "python", "block.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "newest")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (newer, done.stderr)
    assert "significant gain: +" in done.stdout
    assert json.loads((tmp_path / "scales.json").read_text())["format"] == "qroar-scales"
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    assert "deprecated" not in done.stderr, (newer, done.stderr)
