"""The layers of docs/method.md section 6, read from the syntax trees: who may import whom, how long a file may be.

Every rule is a function from a file's path and source to complaints, and each is shown a wrong file too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from qroar_core.diagnostics.registry import diagnostics

ROOT = Path(__file__).parents[1]
PACKAGE = "qroar_core"
TOP_LEVEL = {
    *("app.py", "pages", "qroar_core", "assets", "tests", "benchmarks", "requirements.txt", "requirements-dev.txt"),
    *("docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml"),
    *(".streamlit", ".ci", ".gitignore"),
}
GROUND = (
    "members",
    "number_of",
    "checks",
    "errors",
    "escape",
    "progress",
    "specs",
    "job",
    "jobs",
    "result",
    "result_shapes",
    "bundled",
    "version",
    "plain_file",
    "disk_name",
    "large_imports",
    "shared",
)
ORDER = (
    *("diagnostics", "scale_search", "evaluation", "retrieval", "harness", "remedies"),
    *("controls", "replication", "prediction", "rope_search", "exporters"),
)
STAGES = {  # folder: the stage that it belongs to; a stage may import only those before it
    **{name: name for name in ORDER},
    **{f"evidence.{name}": name for name in ("controls", "replication", "prediction")},
}
FINDINGS = {  # files that turn numbers into results, and need no tensor
    *("findings", "claims", "gap", "gain", "two_gains", "band_table", "band_labels", "sample", "null", "manifest"),
}
MATHS = {  # files on tensors alone, in the folder of what they compute
    "transforms": {"scales", "baselines", "bounds", "polish", "shuffled", "value_starts"},
    "interpolations": {"pressure", "bands", "tied_frequencies"},
    "quantizers": {"fake_quantize", "hadamard", "weights", "steps", "applicability", "exact_keys", "large_bias"},
    "evaluation": {"kl_report"},
}
MODELS = {
    "transforms": {"file", "groups", "refusal", "refusals"},
    "interpolations": {"frequencies", "checkpoint_rope", "rope_without_model", "pressure_of_methods"},
}
SPECS = {"quantizers": {"spec", "parse", "memory"}, "interpolations": {"spec", "tie", "rope_file"}}
MEMBERS = {
    "interpolations": {"base", "registry", "methods"},
    "remedies": {"remedy", "methods"},
    "quantizers": {"preset", "presets", "grid", "grids", "float8", "small_float", "codebook", "layer_flags"},
    "diagnostics": {"diagnostic", "registry"},
    "transforms": {"kind", "registry", "kinds"},
    "exporters": {"format", "formats", "reader", "readers", "recipe"},
}  # what there is of a kind; listed without torch
LAYERS = {  # layer: the layers it may import besides itself; of stages, only those before it
    "ground": {"members"},
    "members": {"ground"},
    "maths": {"ground", "members", "results"},
    "results": {"ground", "members"},
    "models": {"ground", "members", "maths", "results"},
    "stages": {"ground", "members", "maths", "results", "models"},
    "lessons": {"ground", "members", "maths", "results", "models"},  # read by the faces alone
    "figures": {"ground", "members", "results"},
    "runs": {"ground", "members", "maths", "results", "models", "stages", "figures"},
    "library": {"ground", "members", "maths", "results", "models", "stages", "figures", "runs"},
    "faces": {"ground", "members", "maths", "results", "models", "stages", "lessons", "figures", "runs", "library"},
}
EXTERNAL_ONLY = {"maths": {"torch", "numpy"}}  # beyond the standard library
EXTERNAL_NEVER = {
    "ground": {"torch", "transformers", "streamlit", "plotly"},
    "members": {"transformers", "streamlit", "plotly"},
    "results": {"torch", "transformers", "streamlit", "plotly"},
    "models": {"streamlit", "plotly"},
    "stages": {"transformers", "streamlit", "plotly"},
    "lessons": {"transformers", "streamlit", "plotly"},
    "figures": {"torch", "transformers", "streamlit"},
    "runs": {"transformers", "streamlit"},
    "library": {"transformers", "streamlit"},
    "faces": {"transformers"},
}
CORE_LINES, PAGE_LINES = 300, 60  # what pages share lies in a folder of pages/ and is no page


def layer_of(module: str) -> str:
    """Layer of a dotted module name; KeyError where none is named."""
    head, *rest = module.split(".")
    if head in ("app", "pages"):
        return "faces"
    part = rest[0] if rest else "__init__"
    if part in ("__main__", "cli"):
        return "faces"
    if (
        part in ("library", "setup", "sweeps", "tradeoffs") or not rest
    ):  # the package itself offers what the library has, when it is asked for
        return "library"
    if part == "setting":
        return "models"
    if part in GROUND or part.startswith("__"):  # the package itself: __init__, __version__
        return "ground"
    if rest in (["quantizers"], ["transforms"], ["interpolations"], ["evidence"]):  # the folder's own docstring
        return "ground"
    file = rest[-1]
    if ({*rest[1:2]} & MEMBERS.get(part, set()) and not is_file_of_a_member(rest)) or is_diagnostic(rest):
        return "members"
    for layer, files in (("maths", MATHS), ("models", MODELS), ("ground", SPECS)):
        if file in files.get(part, ()):
            return layer
    if part == "figures" or file.startswith("figure") or file.endswith("_figure") or file == "headline":
        return "figures"
    if part in ("results", "statistics") or file.startswith("result") or file.endswith("_result") or file in FINDINGS:
        return "results"
    if stage_of(module):
        return "stages"
    return {name: name for name in ("maths", "models", "lessons", "runs")}[part]


def is_diagnostic(rest: list[str]) -> bool:
    """What the folder of a diagnostic says of itself, in its __init__.py."""
    return rest[0] == "diagnostics" and len(rest) == 2 and (ROOT / PACKAGE / Path(*rest)).is_dir()


def is_file_of_a_member(rest: list[str]) -> bool:
    """What the folder of a remedy computes, or a transform's figure and refusal; its __init__.py says what it is."""
    return rest[:2] in (["remedies", "methods"], ["transforms", "kinds"]) and len(rest) == 4


def stage_of(module: str) -> str | None:
    """The stage that a module of the package belongs to, by its folder; None for one of no stage."""
    rest = module.split(".")[1:]
    return STAGES.get(rest[0]) or STAGES.get(".".join(rest[:2]))


def goes_before(one: str | None, other: str | None) -> bool:
    """Whether a stage may be called by another: it is the same, or comes before it in the job."""
    return one == other or (one in ORDER and other in ORDER and ORDER.index(one) < ORDER.index(other))


def resolved(name: str) -> str:
    """The module of an imported name: `from a.b import c` may name the module a.b.c, or c in the module a.b."""
    parts = name.split(".")
    while len(parts) > 2 and not any((ROOT / "/".join(parts)).with_suffix(end).exists() for end in (".py", "")):
        parts.pop()
    return ".".join(parts)


def module_of(path: str) -> str:
    """Dotted name of a repository path."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: str, source: str) -> set[str]:
    """Dotted names a file imports: at its head, inside functions, relative, by a literal name, or as a registry does.

    A registry's `members_of(FOLDER, ...)` imports every member of the folder, and a name with a part that is only known
    when the code runs, f"{FOLDER}.{name}.result", every module that it can be.
    """
    names = set()
    package = Path(path).parts[:-1]
    tree = ast.parse(source)
    known = {"__name__": module_of(path)} | strings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            names |= {f"{stem}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                names |= modules_like(pattern(node.args[0], known))
            elif name == "members_of":
                names |= modules_like(f"{pattern(node.args[0], known)}.*", "folders_in(" in ast.unparse(node))
    return names - {module_of(path)}


def strings(tree: ast.Module) -> dict[str, str]:
    """Names of a module that stand for one text."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def pattern(name: ast.expr, known: dict[str, str]) -> str:
    """A module's name as the code spells it, with `*` for what is not known before it runs."""
    if isinstance(name, ast.JoinedStr):
        return "".join(pattern(part, known) for part in name.values)
    if isinstance(name, ast.FormattedValue):
        return pattern(name.value, known)
    if isinstance(name, ast.Constant):
        return str(name.value)
    return known.get(name.id, "*") if isinstance(name, ast.Name) else "*"


def modules_like(pattern: str, folders: bool = False) -> set[str]:
    """Every module of ours with such a name, or every folder; none where its own folder is open: it would be all."""
    parts = pattern.split(".")
    if "*" not in pattern:
        return {pattern}
    if any("*" in part for part in parts[:2]):
        return set()
    files = [*(() if folders else ROOT.glob("/".join(parts) + ".py")), *ROOT.glob("/".join((*parts, "__init__.py")))]
    return {module_of(path.relative_to(ROOT).as_posix()) for path in files} - {".".join(parts[:-1])}


def wrong_imports(path: str, source: str) -> list[str]:
    """Imports that run upward, sideways between stages, or out to a library the layer may not know."""
    try:
        layer = layer_of(module_of(path))
    except KeyError:
        return [f"{path}: belongs to no layer of docs/method.md section 6"]
    complaints = []
    for name in sorted(imported(path, source)):
        head, *rest = name.split(".")
        if head in (PACKAGE, "pages", "app"):
            try:
                name = resolved(name)
                other = layer_of(name) if rest else "ground"
            except KeyError:
                complaints.append(f"{path}: {name} belongs to no layer")
                continue
            if other != layer and other not in LAYERS[layer]:
                complaints.append(f"{path}: {layer} imports {name} of {other}")
            elif other == layer == "stages" and not goes_before(stage_of(name), stage_of(module_of(path))):
                complaints.append(f"{path}: a stage imports {name}, which does not come before it")
            elif head != PACKAGE and path.startswith(PACKAGE):
                complaints.append(f"{path}: imports {name}")
        elif head in EXTERNAL_NEVER.get(layer, ()):
            complaints.append(f"{path}: {layer} imports {head}")
        elif head == "streamlit" and path.startswith(PACKAGE):
            complaints.append(f"{path}: streamlit lives in app.py and pages/")
        elif layer in EXTERNAL_ONLY and head not in EXTERNAL_ONLY[layer] | sys.stdlib_module_names:
            complaints.append(f"{path}: {layer} imports {head}")
    return complaints


def circles(sources: dict[str, str]) -> list[str]:
    """A circle of imports among files, path -> source; those inside functions and for type checkers count too."""
    graph = {}
    for path, source in sources.items():
        names = {resolved(name) for name in imported(path, source) if name.split(".")[0] in (PACKAGE, "pages")}
        graph[module_of(path)] = names - {module_of(path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


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


HAND_OUT_RESULTS = ("pages/", "qroar_core/job.py", "qroar_core/jobs.py", "qroar_core/runs/store.py")


def untyped_results(path: str, source: str) -> list[str]:
    """Functions that hand out results of stages and whose own mypy would not look at: `Any`, alone or among others.

    Options by their name, `dict[str, Any]`, are no such result.
    """
    if not path.startswith(HAND_OUT_RESULTS):
        return []
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f"{path}:{f.lineno}: {f.name} returns Any" for f in functions if f.returns is None or may_be_any(f.returns)]


def may_be_any(annotation: ast.expr) -> bool:
    """Is it `Any`, or a union or a tuple with it?"""
    if isinstance(annotation, ast.BinOp):
        return may_be_any(annotation.left) or may_be_any(annotation.right)
    if isinstance(annotation, ast.Subscript):
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return ast.unparse(annotation.value) in ("tuple", "Optional", "Union") and any(map(may_be_any, parts))
    return ast.unparse(annotation).strip("'\"") in ("Any", "typing.Any")


def strangers(paths: list[str]) -> list[str]:
    """Top-level entries of the repository that nobody agreed on."""
    return sorted({Path(path).parts[0] for path in paths} - TOP_LEVEL)


def sources() -> list[tuple[str, str]]:
    """(path, text) of the core and the dashboard as they lie on disk, tracked yet or not."""
    paths = [*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "pages").rglob("*.py"), *ROOT.glob("app.py")]
    return [(path.relative_to(ROOT).as_posix(), path.read_text()) for path in sorted(paths)]


@pytest.mark.parametrize("rule", [wrong_imports, too_long, prints, untyped_results], ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule):
    files = sources()
    assert len(files) > 40
    assert [complaint for path, source in files for complaint in rule(path, source)] == []


def test_no_import_runs_in_a_circle():
    assert circles(dict(sources())) == []


def test_a_circle_is_seen_also_where_an_import_is_late_or_for_the_type_checker_alone():
    late = {"qroar_core/jobs.py": "def f():\n    from qroar_core.job import Job\n"}
    typed = {"qroar_core/job.py": "if TYPE_CHECKING:\n    from qroar_core.jobs import Manager\n"}
    assert circles(late) == circles(typed) == []
    (found,) = circles(late | typed)
    assert sorted(set(found.split(" -> "))) == ["qroar_core.job", "qroar_core.jobs"]


REGISTRIES = [  # how a registry may import a member, and one that it then does
    'members_of("qroar_core.quantizers.grids", NAMES, "LEVELS")',
    'FOLDER = "qroar_core.quantizers.grids"\nmembers_of(FOLDER, NAMES, "LEVELS")',
    'FOLDER = "qroar_core.quantizers"\nimport_module(f"{FOLDER}.{kind}.{name}")',
    'import_module(f"qroar_core.quantizers.grids.{name}")',
    'importlib.import_module(f"qroar_core.quantizers.grids.aff{rest}")',
]


@pytest.mark.parametrize("source", REGISTRIES)
def test_a_circle_is_seen_also_through_a_registry(source):
    member = {"qroar_core/quantizers/grids/affine.py": "from qroar_core.quantizers import parse"}
    (found,) = circles(member | {"qroar_core/quantizers/parse.py": source})
    assert sorted(set(found.split(" -> "))) == ["qroar_core.quantizers.grids.affine", "qroar_core.quantizers.parse"]
    assert circles({"qroar_core/quantizers/parse.py": source}) == []


def test_a_name_that_leaves_its_folder_open_is_no_import_of_everything():
    assert imported("qroar_core/members.py", 'import_module(f"{package}.{name}")') == set()
    folders = imported("qroar_core/new.py", 'members_of("qroar_core.diagnostics", folders_in(HERE), "DIAGNOSTIC")')
    assert folders == {f"qroar_core.diagnostics.{name}" for name in diagnostics()}
    assert imported("pages/server/preload.py", 'import_module(f"pages.{folder}")') == set()


def test_the_repository_holds_what_was_agreed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = listed.stdout.splitlines()
    assert f"{PACKAGE}/specs/__init__.py" in paths
    assert strangers(paths) == []


def test_transformers_is_imported_by_models_and_interpolations_alone():
    users = {
        path.split("/")[1]
        for path, source in sources()
        if any(name.split(".")[0] == "transformers" for name in imported(path, source))
    }
    assert users == {"models", "interpolations"}


WRONG = [  # one per rule and way round it
    ("qroar_core/specs.py", "from qroar_core.maths.rope import Pairing", "ground imports"),
    ("qroar_core/specs.py", "import torch", "ground imports torch"),
    ("qroar_core/maths/new.py", "from qroar_core.models.loaded import LoadedModel", "maths imports"),
    ("qroar_core/maths/new.py", "from qroar_core.figures import picture", "maths imports"),
    ("qroar_core/maths/new.py", "import transformers", "maths imports transformers"),
    ("qroar_core/maths/new.py", "import scipy.stats", "maths imports scipy"),
    ("qroar_core/results/new.py", "import torch", "results imports torch"),
    ("qroar_core/results/new.py", "from ..maths import rope", "results imports"),
    ("qroar_core/models/new.py", "def f():\n    from qroar_core.scale_search import run", "models imports"),
    ("qroar_core/models/new.py", "import streamlit as st", "models imports streamlit"),
    ("qroar_core/models/families/new.py", "from ...evaluation.run import run", "models imports"),
    ("qroar_core/scale_search/run.py", "from qroar_core.evaluation import run", "does not come before it"),
    ("qroar_core/scale_search/run.py", "from qroar_core.remedies.run import run", "does not come before it"),
    ("qroar_core/evidence/controls/run.py", "from qroar_core.exporters import hf", "does not come before it"),
    ("qroar_core/diagnostics/new.py", "from qroar_core.scale_search.run import run", "does not come before it"),
    ("qroar_core/scale_search/run.py", "import transformers", "stages imports transformers"),
    ("qroar_core/scale_search/run.py", "from qroar_core.runs import folder", "stages imports"),
    ("qroar_core/figures/new.py", "from torch import Tensor", "figures imports torch"),
    ("qroar_core/figures/new.py", "from qroar_core.models import load", "figures imports"),
    ("qroar_core/figures/new.py", "from qroar_core.interpolations.bands import partition", "figures imports"),
    ("qroar_core/figures/new.py", "importlib.import_module('streamlit')", "figures imports streamlit"),
    ("qroar_core/figures/lessons/new.py", "from qroar_core.lessons.clocks import clocks", "figures imports"),
    ("qroar_core/lessons/new.py", "from qroar_core.figures.lessons import clocks", "lessons imports"),
    ("qroar_core/lessons/new.py", "from qroar_core.scale_search import run", "lessons imports"),
    ("qroar_core/lessons/new.py", "import transformers", "lessons imports transformers"),
    ("qroar_core/scale_search/run.py", "from qroar_core.lessons import clocks", "stages imports"),
    ("qroar_core/transforms/kinds/maps/__init__.py", "from qroar_core.models import load", "members imports"),
    ("qroar_core/transforms/kinds/maps/figure.py", "import torch", "figures imports torch"),
    ("qroar_core/transforms/kinds/maps/refusal.py", "import plotly", "models imports plotly"),
    ("qroar_core/exporters/formats/hf.py", "from qroar_core.exporters import hf", "members imports"),
    (
        "qroar_core/diagnostics/tail_inflation/__init__.py",
        "from qroar_core.diagnostics.tail_inflation import measure",
        "members imports",
    ),
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
    ("qroar_core/models/new.py", "import transformers\nfrom qroar_core.transforms.result import ScalesFile"),
    ("qroar_core/scale_search/run.py", "import torch, optuna\nfrom qroar_core.models.stream import open_stream"),
    ("qroar_core/scale_search/run/parts.py", "from qroar_core.scale_search.run.grid import steps"),
    (
        "qroar_core/lessons/new.py",
        "from qroar_core.interpolations.frequencies import Rope\nfrom qroar_core.lessons.result import Clocks",
    ),
    ("pages/views/lessons/new.py", "from qroar_core.lessons.clocks import clocks"),
    ("qroar_core/diagnostics/run.py", "from qroar_core.diagnostics.assemble import assemble"),
    ("qroar_core/figures/new.py", "import plotly.graph_objects\nfrom qroar_core.results import Diagnosis"),
    ("qroar_core/runs/new.py", "from qroar_core.evaluation.run import run\nfrom qroar_core.figures import report"),
    ("qroar_core/__main__.py", "import typer\nfrom qroar_core.scale_search import run"),
    ("pages/start.py", "import streamlit\nfrom qroar_core.models import load\nfrom pages import session"),
]


@pytest.mark.parametrize(("path", "source"), RIGHT)
def test_a_right_import_is_not(path, source):
    assert wrong_imports(path, source) == []


def test_the_other_rules_catch_wrong_files():
    assert too_long("qroar_core/scale_search/run.py", "\n" * 301)
    assert too_long("pages/start.py", "\n" * 61)
    assert too_long("pages/views/jobs.py", "\n" * 301)
    assert not too_long("pages/views/jobs.py", "\n" * 300)
    assert not too_long("qroar_core/scale_search/run.py", "\n" * 300)
    assert not too_long("tests/test_layout.py", "\n" * 900)
    assert prints("qroar_core/scale_search/run.py", "def f():\n    print('x')")
    assert not prints("qroar_core/scale_search/run.py", "fingerprint(x)\n# print(x)")
    assert not prints("qroar_core/__main__.py", "print('x')")
    for wrong in ("Any", "typing.Any", "'Any'", "Any | None", "Optional[Any]", "tuple[bool, Any]"):
        assert untyped_results("pages/views/new.py", f"def outcome() -> {wrong}: ...") == [
            "pages/views/new.py:1: outcome returns Any"
        ]
    assert untyped_results("pages/views/new.py", "class C:\n    async def outcome(self): ...")
    for right in ("None", "SearchOutcome | None", "dict[str, Any]", "Callable[..., Any]", "tuple[bool, T]"):
        assert not untyped_results("pages/views/new.py", f"def outcome() -> {right}: ...")
    assert untyped_results("qroar_core/jobs.py", "def result(key) -> Any: ...")
    assert not untyped_results("qroar_core/plain_file.py", "def read_json(path) -> Any: ...")
    assert strangers(["utils.py", "qroar_core/specs.py", "runs/1/manifest.json", ".gitignore"]) == ["runs", "utils.py"]
