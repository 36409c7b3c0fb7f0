"""The page of the public API, built by CONTRIBUTING.md's command; the oracle reads the docstrings' source itself."""

import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import pytest

import qroar_core

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"^    \.venv/bin/python (-m docs\.build_api) (\S+)$", re.M)
SAID_ONCE = {"model", "setup", "on_step"}  # of every stage, at the head of the page
RESULTS = {
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "LayerChoice",
    "Retrieval",
    "RopeSearch",
    "TaskScores",
    "TieChoice",
    "Tradeoff",
    "Transform",
}  # nobody makes one by hand


def build(folder, **environment):
    """What CONTRIBUTING.md says, with another folder."""
    (arguments, _), *others = COMMAND.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert not others
    command = [sys.executable, *shlex.split(arguments), str(folder)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


class Entries(HTMLParser):
    """id of every entry -> its words, and of all: the links that lead out of the page, the listed words in bold."""

    def __init__(self, text):
        super().__init__()
        self.words, self.out, self.bold = {}, [], {}
        self._open, self._tags, self._quiet = [], [], 0
        self.feed(text)
        self.words = {name: " ".join("".join(parts).split()) for name, parts in self.words.items()}

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "section" or "docstring" in (given.get("class") or ""):
            self._open.append((tag, len(self._tags), given.get("id")))
        if tag in ("link", "img", "script", "iframe"):
            self.out += [given[name] for name in ("src", "href") if given.get(name)]
        if tag not in ("meta", "link", "img", "br", "hr", "input", "wbr"):
            self._tags.append(tag)
        self._quiet += tag in ("script", "style")

    def handle_endtag(self, tag):
        if tag in self._tags:
            while self._tags.pop() != tag:
                pass
        self._quiet -= tag in ("script", "style")
        while self._open and len(self._tags) <= self._open[-1][1]:
            self._open.pop()

    def handle_data(self, data):
        name = next((name for tag, _, name in reversed(self._open) if tag == "section" and name), "")
        if not self._quiet:
            self.words.setdefault(name, []).append(data)
            if self._tags[-1:] == ["strong"]:
                self.bold.setdefault(name, []).append(data.rstrip(":"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "site"
    done = build(folder)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = folder.iterdir()
    return Entries(path.read_text())


def documented(name):
    """Parameter -> its text, of the docstring as it stands in the source; letters of Markdown left out."""
    found = getattr(qroar_core, name)
    tree = ast.parse(textwrap.dedent(inspect.getsource(found)))
    text = ast.get_docstring(tree.body[0])
    part = re.search(r"^(?:Args|Attributes):\n(.*?)(?=^\w|\Z)", text, re.S | re.M)
    items = re.findall(r"^ {4}(\w[\w, ]*): (.*?)(?=^ {4}\S|\Z)", part.group(1), re.S | re.M) if part else []
    return {one.strip(): " ".join(said.split()).replace("`", "") for names, said in items for one in names.split(",")}


@pytest.mark.parametrize("name", qroar_core.__all__)
def test_every_public_name_and_what_is_said_of_each_parameter_is_on_the_page(page, name):
    said, given = documented(name), inspect.signature(getattr(qroar_core, name)).parameters
    assert page.words[name]
    if name not in RESULTS:
        assert set(given) - SAID_ONCE == set(said) - SAID_ONCE
    shown = {one.strip() for names in page.bold.get(name, []) for one in names.split(",")}
    for parameter, text in said.items():
        assert text in page.words[name]
        assert parameter in shown  # as an entry of the list of arguments, not as a line of a paragraph


def test_the_page_says_what_every_stage_takes_and_asks_nothing_of_the_internet(page):
    head = page.words[""]
    assert all(f"{name}," in head for name in SAID_ONCE)
    assert [address for address in page.out if not address.startswith("data:")] == []


def test_inherited_methods_of_a_result_are_shown(page):
    for name in ("table", "figures", "plot", "save", "load", "summary"):
        assert re.search(rf"def {name}\(", page.words["Evaluation"]), name
    assert "PydanticUndefined" not in page.words["Evaluation"]


def test_every_diagnostic_is_listed_with_its_page_and_figures(page):
    said = page.words["Diagnosis"]
    assert "Cost of each band Bands band_cost" in said
    for source in (ROOT / "qroar_core" / "diagnostics").glob("*/__init__.py"):
        for call in ast.walk(ast.parse(source.read_text())):
            if isinstance(call, ast.Call):
                label, _, shown_on, *_ = (getattr(argument, "value", None) for argument in call.args)
                assert f"{label} {shown_on} " in said


def test_a_warning_ends_the_build(tmp_path):
    """A type that nothing defines, in a public docstring's signature."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.path.insert(0, '.')\n"
        "import qroar_core.library.calls as calls\n"
        "calls.load.__annotations__['source'] = 'Nowhere.Thing'\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = build(tmp_path / "site", PYTHONPATH=path)
    assert done.returncode != 0
    assert "Nowhere" in done.stderr
    assert not (tmp_path / "site").exists()


def test_without_a_folder_one_line_says_what_to_give():
    done = subprocess.run([sys.executable, "-m", "docs.build_api"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr == "docs.build_api: names one folder to write to; give it, as in: python -m docs.build_api site\n"
    )
