"""How the code is laid out, in counts: files on the way of a click, files to add a thing, size and repetition.

The targets beside the first two are those that the layout was planned with. What to add a thing takes is read off the
examples of docs/extending.md, which tests/test_extending.py runs: the files of the example, and its test.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.house_traces import ROOT, TRACES, traced
from tests.test_layout import circles

CORE, PAGES = "qroar_core", "pages"
LONGEST_CORE, LONGEST_PAGE = 300, 60  # lines
ADDED = {  # what people add -> files it may take, its test included
    "interpolation": 2,
    "quantizer preset": 2,
    "grid": 3,
    "RoPE family": 2,
    "diagnostic": 5,
    "remedy": 2,
    "search objective": 2,
}
SECTION = re.compile(r"^## +(.*?)\n(.*?)(?=^## |\Z)", re.M | re.S)
EXAMPLE = re.compile(r"^`(\S+)`\n\n```python", re.M)
ALIKE = 3  # strings in a literal, from which on the same literal in two files is a parallel list
Sources = Mapping[str, str]  # path -> text


def main() -> None:
    """Print every count."""
    sources = read()
    found = traced()
    print("| from a click to its result | files | at most |\n|---|---|---|")
    for trace in TRACES:
        print(f"| {trace.name} | {len(found[trace.name])} | {trace.most} |")
    for trace in TRACES:
        print(f"\n{trace.name}: {', '.join(found[trace.name])}")
    print("\n| to add | files | at most | example |\n|---|---|---|---|")
    examples = added((ROOT / "docs/extending.md").read_text(encoding="utf-8"))
    for what, most in ADDED.items():
        files = examples.get(what, [])
        print(f"| {what} | {len(files) + 1 if files else ''} | {most} | {', '.join(files) or 'none'} |")
    print("\n| folder | files | lines | longest | functions and classes | Any | type: ignore | fmt: skip |")
    print("|---|---|---|---|---|---|---|---|")
    for folder, row in by_folder(sources).items():
        print(f"| {folder} | {' | '.join(map(str, row))} |")
    print(f"\nfiles over their limit of lines: {', '.join(too_long(sources)) or 'none'}")
    found_circles = circles(dict(sources))
    print(f"import circle, lazy, registry and TYPE_CHECKING imports included: {', '.join(found_circles) or 'none'}")
    classes, constants = class_names(sources), constant_names(sources)
    print(f"\nclass names that stand for several things: {len(classes)}")
    for name, paths in classes.items():
        print(f"- {name}: {', '.join(paths)}")
    print(f"\nconstant names that stand for several things: {len(constants)}, with the number of files:")
    print(", ".join(f"{name} {len(paths)}" for name, paths in constants.items()))
    lists = parallel(sources)
    print(f"\nthe same {ALIKE} or more strings listed in several files: {len(lists)}")
    for words, paths in lists.items():
        print(f"- {', '.join(words)}: {', '.join(paths)}")


def read() -> dict[str, str]:
    """Path from the root -> text, of the core and the dashboard."""
    files = [ROOT / "app.py", *(ROOT / CORE).rglob("*.py"), *(ROOT / PAGES).rglob("*.py")]
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in sorted(files)}


def added(text: str) -> dict[str, list[str]]:
    """What people add -> the files of its example, as `text` (docs/extending.md) shows it."""
    sections = {title: EXAMPLE.findall(body) for title, body in SECTION.findall(text)}
    return {what: files for what in ADDED for title, files in sections.items() if what.lower() in title.lower()}


def by_folder(sources: Sources) -> dict[str, tuple[int, int, int, int, int, int, int]]:
    """Folder -> files, lines, longest file, functions and classes, uses of Any, of `type: ignore`, of `fmt: skip`."""
    folders = defaultdict(list)
    for path, text in sources.items():
        names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        counts = (text.count("\n"), len(names), _any(text), text.count("# type: ignore"), text.count("# fmt: skip"))
        for folder in (_folder(path), "all"):
            folders[folder].append(counts)
    out = {}
    for folder in sorted(folders, key=lambda name: (name == "all", name)):
        lines, names, any_, ignored, skipped = zip(*folders[folder])
        out[folder] = (len(lines), sum(lines), max(lines), sum(names), sum(any_), sum(ignored), sum(skipped))
    return out


def _folder(path: str) -> str:
    """A folder of the core, one of the dashboard's, or the root."""
    parts = Path(path).parts
    return "/".join(parts[: min(2, len(parts) - 1)]) or "."


def _any(text: str) -> int:
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(ast.parse(text)))


def too_long(sources: Sources) -> list[str]:
    """Files with more lines than a file of their place has."""
    most = {path: LONGEST_PAGE if str(Path(path).parent) == PAGES else LONGEST_CORE for path in sources}
    return [path for path, text in sources.items() if text.count("\n") > most[path]]


def class_names(sources: Sources) -> dict[str, list[str]]:
    """Public classes of one name in several files -> those files."""
    return _repeated(sources, lambda node: [node.name] if isinstance(node, ast.ClassDef) else [])


def constant_names(sources: Sources) -> dict[str, list[str]]:
    """Public constants of one name that are assigned, to different values, in several files -> those files."""
    values = defaultdict(set)
    for text in sources.values():
        for node in ast.parse(text).body:
            for name in _constants(node):
                values[name].add(ast.dump(node.value))  # type: ignore[attr-defined]
    return {name: paths for name, paths in _repeated(sources, _constants).items() if len(values[name]) > 1}


def _constants(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return [name for name in names if name.isupper()] if getattr(node, "value", None) is not None else []


def _repeated(sources: Sources, names_of: Callable[[ast.stmt], list[str]]) -> dict[str, list[str]]:
    paths = defaultdict(list)
    for path, text in sources.items():
        for name in {name for node in ast.parse(text).body for name in names_of(node) if not name.startswith("_")}:
            paths[name].append(path)
    return {name: found for name, found in sorted(paths.items()) if len(found) > 1}


def parallel(sources: Sources) -> dict[tuple[str, ...], list[str]]:
    """Strings that a tuple, list, set, Literal or a constant dict's keys hold in several files -> those files."""
    paths = defaultdict(set)
    for path, text in sources.items():
        tree = ast.parse(text)
        tables = {id(node.value) for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)}
        for node in ast.walk(tree):
            parts = node.keys if isinstance(node, ast.Dict) and id(node) in tables else getattr(node, "elts", [])
            words = {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
            if len(words) == len(parts) >= ALIKE:
                paths[tuple(sorted(words))].add(path)
    return {words: sorted(found) for words, found in sorted(paths.items()) if len(found) > 1}


if __name__ == "__main__":
    main()
