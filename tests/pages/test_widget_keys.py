"""Keys of figures, tables and downloads are no widget's: Streamlit ends a page that holds one key twice."""

import ast
import re
from pathlib import Path

import pytest

from qroar_core.transforms.registry import kinds, switches

PAGES = Path(__file__).parents[2] / "pages"
KEY_AT = {"number": 4, "menu": 3, "one_of": 2, "switch": 2}  # helpers of widget_state that take the key by position
DRAWN = {"picture": ("{}",), "numbers": ("{} table", "{} csv"), "download": ("{} csv",)}


def calls():
    """Every call in pages/ with the name it is called by and where it stands."""
    for path in sorted(set(PAGES.rglob("*.py")) - {PAGES / "views" / "render.py"}):  # it draws what it is given
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield name, node, f"{path.relative_to(PAGES)}:{node.lineno}"


def pattern(node):
    """What a key may be: a literal as it is, any text in the gaps of an f-string; None where it is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern(part) if isinstance(part, ast.Constant) else ".+" for part in node.values)
    return None


def argument(node, name, at):
    named = next((word.value for word in node.keywords if word.arg == name), None)
    return named if named is not None else node.args[at] if len(node.args) > at else None


def keys():
    """(where, pattern) of the widgets, and of what is drawn."""
    widgets, drawn = [], []
    for name, node, where in calls():
        if name in DRAWN:
            found = pattern(argument(node, "key", 1))
            shapes = DRAWN[name]
            if name == "picture":  # its table and its CSV are keyed by it
                shapes = ("{}", *DRAWN["numbers"])
            drawn += [(where, shape.format(found)) for shape in shapes if found is not None]
        elif name == "pressed":
            widgets.append((where, pattern(argument(node, "key", 1)) or pattern(argument(node, "label", 0))))
        elif (found := pattern(argument(node, "key", KEY_AT.get(name, len(node.args))))) is not None:
            widgets.append((where, found))
    widgets += [("a kind of transform", re.escape(name)) for name in switches()]  # toggles and figures made in loops
    labels = [re.escape(kind.label if name in switches() else name) for name, kind in kinds().items()]
    drawn += [("a kind of transform", shape.format(label)) for label in labels for shape in ("{}", *DRAWN["numbers"])]
    return [(where, key) for where, key in widgets if key is not None], drawn


def alike(one, other):
    """May two patterns mean one key? One of them is filled in and held against the other."""
    plain = [re.sub(r"\\(.)", r"\1", key) for key in (one, other)]
    return bool(re.fullmatch(one, plain[1]) or re.fullmatch(other, plain[0]))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [("maps", "maps", True), ("maps", "map", False), (".+ csv", "bands csv", True), ("a .+", r"b\ c", False)],
)
def test_patterns_of_keys(one, other, said):
    assert alike(one, other) == said


def test_no_figure_table_or_download_has_a_widgets_key():
    widgets, drawn = keys()
    assert len(widgets) > 100
    assert len(drawn) > 100
    assert any(key == "angles" for _, key in widgets)
    assert any(key == "scales" for _, key in drawn)
    assert not [(here, there, key) for here, key in drawn for there, other in widgets if alike(key, other)]
