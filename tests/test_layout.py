"""The layers of DESIGN section 6, read from the syntax trees: who may import whom, how long a file may be.

Every rule is a function from a file's path and source to complaints, and each is shown a wrong file too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "qroar_core"
TOP_LEVEL = {
    *("app.py", "pages", "qroar_core", "assets", "tests", "benchmarks", "requirements.txt", "requirements-dev.txt"),
    *("README.md", "LICENSE", "pyproject.toml", ".streamlit", ".ci", ".gitignore"),
}
GROUND = ("errors", "escape", "progress", "specs", "presets", "job", "jobs", "result", "axes", "bundled")
STAGES = {stage: stage for stage in ("load", "diagnose", "search", "evaluate", "continuations", "retrieve", "export")}
STAGES |= {"diagnostics": "diagnose", "searching": "search", "exporting": "export"}  # a stage's own parts
STAGES |= {"retrieving": "retrieve"}
STAGES |= {"league": "league", "contending": "league"}
STAGES |= {"controls": "controls", "replicate": "replicate", "predict": "predict"}
LAYERS = {  # layer: the layers it may import besides itself; sibling stages may not import each other
    "ground": set(),
    "maths": {"ground", "results"},
    "results": {"ground"},
    "models": {"ground", "maths", "results"},
    "stages": {"ground", "maths", "results", "models"},
    "lessons": {"ground", "maths", "results", "models"},  # read by the faces alone
    "figures": {"ground", "results"},
    "runs": {"ground", "maths", "results", "models", "stages", "figures"},
    "faces": {"ground", "maths", "results", "models", "stages", "lessons", "figures", "runs"},
}
EXTERNAL_ONLY = {"maths": {"torch", "numpy"}}  # beyond the standard library
EXTERNAL_NEVER = {
    "ground": {"torch", "transformers", "streamlit", "plotly"},
    "results": {"torch", "transformers", "streamlit", "plotly"},
    "models": {"streamlit", "plotly"},
    "stages": {"transformers", "streamlit", "plotly"},
    "lessons": {"transformers", "streamlit", "plotly"},
    "figures": {"torch", "transformers", "streamlit"},
    "runs": {"transformers", "streamlit"},
    "faces": {"transformers"},
}
CORE_LINES, PAGE_LINES = 250, 60  # what pages share lies in a folder of pages/ and is no page


def layer_of(module: str) -> str:
    """Layer of a dotted module name; KeyError where DESIGN names none."""
    head, *rest = module.split(".")
    if head in ("app", "pages"):
        return "faces"
    part = rest[0] if rest else "__init__"
    if part in ("__main__", "cli"):
        return "faces"
    if part in GROUND or part.startswith("__"):  # the package itself: __init__, __version__
        return "ground"
    if part == "diagnostics" and rest[1:]:  # one folder a diagnostic: the file's name says its layer
        file = rest[2] if rest[2:] and rest[1] not in ("sample", "null") else rest[1]
        if file in ("result", "sample", "null"):
            return "results"
        if file.startswith("figure"):
            return "figures"
    if part in STAGES:
        return "stages"
    return {name: name for name in ("maths", "models", "results", "lessons", "figures", "runs")}[part]


def module_of(path: str) -> str:
    """Dotted name of a repository path."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: str, source: str) -> set[str]:
    """Dotted names a file imports: at its head, inside functions, relative, or by a literal name."""
    names = set()
    package = Path(path).parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            names |= {f"{stem}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                names.add(node.args[0].value)
    return names


def wrong_imports(path: str, source: str) -> list[str]:
    """Imports that run upward, sideways between stages, or out to a library the layer may not know."""
    try:
        layer = layer_of(module_of(path))
    except KeyError:
        return [f"{path}: belongs to no layer of DESIGN section 6"]
    complaints = []
    for name in sorted(imported(path, source)):
        head, *rest = name.split(".")
        if head in (PACKAGE, "pages", "app"):
            try:
                other = layer_of(name) if rest else "ground"
            except KeyError:
                complaints.append(f"{path}: {name} belongs to no layer")
                continue
            if other != layer and other not in LAYERS[layer]:
                complaints.append(f"{path}: {layer} imports {name} of {other}")
            elif other == layer == "stages" and STAGES[rest[0]] != STAGES[module_of(path).split(".")[1]]:
                complaints.append(f"{path}: a stage imports its sibling {name}")
            elif head != PACKAGE and path.startswith(PACKAGE):
                complaints.append(f"{path}: imports {name}")
        elif head in EXTERNAL_NEVER.get(layer, ()):
            complaints.append(f"{path}: {layer} imports {head}")
        elif head == "streamlit" and path.startswith(PACKAGE):
            complaints.append(f"{path}: streamlit lives in app.py and pages/")
        elif layer in EXTERNAL_ONLY and head not in EXTERNAL_ONLY[layer] | sys.stdlib_module_names:
            complaints.append(f"{path}: {layer} imports {head}")
    return complaints


def too_long(path: str, source: str) -> list[str]:
    """Files past the length a reader keeps in mind."""
    page = Path(path).parent.name == "pages"
    most = PAGE_LINES if page else CORE_LINES if path.startswith((PACKAGE, "pages/")) else None
    lines = source.count("\n")
    return [f"{path}: {lines} lines, at most {most}"] if most and lines > most else []


def prints(path: str, source: str) -> list[str]:
    """Calls of print outside the command line."""
    if not path.startswith(PACKAGE) or path == f"{PACKAGE}/__main__.py":
        return []
    return [
        f"{path}:{node.lineno}: print"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def strangers(paths: list[str]) -> list[str]:
    """Top-level entries of the repository that nobody agreed on."""
    return sorted({Path(path).parts[0] for path in paths} - TOP_LEVEL)


def sources() -> list[tuple[str, str]]:
    """(path, text) of the core and the dashboard as they lie on disk, tracked yet or not."""
    paths = [*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "pages").rglob("*.py"), *ROOT.glob("app.py")]
    return [(path.relative_to(ROOT).as_posix(), path.read_text()) for path in sorted(paths)]


@pytest.mark.parametrize("rule", [wrong_imports, too_long, prints], ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule):
    files = sources()
    assert len(files) > 40
    assert [complaint for path, source in files for complaint in rule(path, source)] == []


def test_the_repository_holds_what_was_agreed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = listed.stdout.splitlines()
    assert f"{PACKAGE}/specs/__init__.py" in paths
    assert strangers(paths) == []


def test_transformers_is_imported_in_models_alone():
    users = {path.split("/")[1] for path, source in sources() if any(
        name.split(".")[0] == "transformers" for name in imported(path, source)
    )}  # fmt: skip
    assert users == {"models"}


WRONG = [  # one per rule and way round it
    ("qroar_core/specs.py", "from qroar_core.maths.rope import Pairing", "ground imports"),
    ("qroar_core/specs.py", "import torch", "ground imports torch"),
    ("qroar_core/maths/new.py", "from qroar_core.models.loaded import LoadedModel", "maths imports"),
    ("qroar_core/maths/new.py", "from qroar_core.figures import picture", "maths imports"),
    ("qroar_core/maths/new.py", "import transformers", "maths imports transformers"),
    ("qroar_core/maths/new.py", "import scipy.stats", "maths imports scipy"),
    ("qroar_core/results/new.py", "import torch", "results imports torch"),
    ("qroar_core/results/new.py", "from ..maths import rope", "results imports"),
    ("qroar_core/models/new.py", "def f():\n    from qroar_core import search", "models imports"),
    ("qroar_core/models/new.py", "import streamlit as st", "models imports streamlit"),
    ("qroar_core/models/families/new.py", "from ...evaluate import run", "models imports"),
    ("qroar_core/search.py", "from qroar_core import evaluate", "sibling"),
    ("qroar_core/search.py", "from qroar_core.diagnose import run", "sibling"),
    ("qroar_core/search.py", "from qroar_core.diagnostics import assemble", "sibling"),
    ("qroar_core/diagnostics/new.py", "from qroar_core.search import run", "sibling"),
    ("qroar_core/search.py", "import transformers", "stages imports transformers"),
    ("qroar_core/search.py", "from qroar_core.runs import folder", "stages imports"),
    ("qroar_core/figures/new.py", "from torch import Tensor", "figures imports torch"),
    ("qroar_core/figures/new.py", "from qroar_core.models import loading", "figures imports"),
    ("qroar_core/figures/new.py", "from qroar_core.maths.bands import partition", "figures imports"),
    ("qroar_core/figures/new.py", "importlib.import_module('streamlit')", "figures imports streamlit"),
    ("qroar_core/figures/lessons/new.py", "from qroar_core.lessons.clocks import clocks", "figures imports"),
    ("qroar_core/lessons/new.py", "from qroar_core.figures.lessons import clocks", "lessons imports"),
    ("qroar_core/lessons/new.py", "from qroar_core import search", "lessons imports"),
    ("qroar_core/lessons/new.py", "import transformers", "lessons imports transformers"),
    ("qroar_core/search.py", "from qroar_core.lessons import clocks", "stages imports"),
    ("qroar_core/runs/new.py", "from qroar_core.lessons import clocks", "runs imports"),
    ("qroar_core/runs/new.py", "import streamlit", "runs imports streamlit"),
    ("qroar_core/runs/new.py", "from qroar_core.__main__ import main", "runs imports"),
    ("qroar_core/__main__.py", "import streamlit", "streamlit lives in"),
    ("qroar_core/__main__.py", "from pages import load", "imports pages"),
    ("qroar_core/helpers.py", "", "belongs to no layer"),
    ("qroar_core/models/new.py", "from qroar_core.helpers import x", "belongs to no layer"),
    ("pages/start.py", "from transformers import AutoConfig", "faces imports transformers"),
    ("app.py", "import transformers", "faces imports transformers"),
]


@pytest.mark.parametrize(("path", "source", "complaint"), WRONG)
def test_a_wrong_import_is_caught(path, source, complaint):
    (found,) = wrong_imports(path, source)
    assert complaint in found


RIGHT = [
    ("qroar_core/maths/new.py", "import math\nimport torch\nfrom qroar_core.specs import RopeSpec"),
    ("qroar_core/models/new.py", "import transformers\nfrom qroar_core.results.scales import ScalesFile"),
    ("qroar_core/search.py", "import torch, optuna\nfrom qroar_core.models.stream import open_stream"),
    ("qroar_core/search/parts.py", "from qroar_core.search.grid import steps"),
    (
        "qroar_core/lessons/new.py",
        "from qroar_core.models.rope import Rope\nfrom qroar_core.results.lessons import Clocks",
    ),
    ("pages/parts/learn/new.py", "from qroar_core.lessons.clocks import clocks"),
    ("qroar_core/diagnose.py", "from qroar_core.diagnostics.assemble import assemble"),
    ("qroar_core/figures/new.py", "import plotly.graph_objects\nfrom qroar_core.results import Diagnosis"),
    ("qroar_core/runs/new.py", "from qroar_core import diagnose, evaluate\nfrom qroar_core.figures import report"),
    ("qroar_core/__main__.py", "import typer\nfrom qroar_core import __version__, search"),
    ("pages/start.py", "import streamlit\nfrom qroar_core import load\nfrom pages import session"),
]


@pytest.mark.parametrize(("path", "source"), RIGHT)
def test_a_right_import_is_not(path, source):
    assert wrong_imports(path, source) == []


def test_the_other_rules_catch_wrong_files():
    assert too_long("qroar_core/search.py", "\n" * 251)
    assert too_long("pages/start.py", "\n" * 61)
    assert too_long("pages/parts/jobs.py", "\n" * 251)
    assert not too_long("pages/parts/jobs.py", "\n" * 250)
    assert not too_long("qroar_core/search.py", "\n" * 250)
    assert not too_long("tests/test_layout.py", "\n" * 900)
    assert prints("qroar_core/search.py", "def f():\n    print('x')")
    assert not prints("qroar_core/search.py", "fingerprint(x)\n# print(x)")
    assert not prints("qroar_core/__main__.py", "print('x')")
    assert strangers(["utils.py", "qroar_core/specs.py", "runs/1/manifest.json", ".gitignore"]) == ["runs", "utils.py"]
