"""Foreign strings are data: no page hands Streamlit a string that was not written in the page's own source.

Read from the syntax trees: whatever Streamlit would take for Markdown is a constant, or `literal(...)`, `code(...)`,
`term_help(...)`, or made of these and of numbers with a format. The rule is shown wrong pages too.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOXES = {"info", "success", "warning", "error"}
BODY = BOXES | set(
    re.findall(
        r"\w+",
        """
    markdown caption write title header subheader badge toast metric button form_submit_button download_button page_link
    expander popover checkbox toggle radio selectbox multiselect select_slider slider number_input text_input text_area
    segmented_control pills spinner tabs table""",
    )
)  # their first argument is Markdown, and a keyword in NAMED
NAMED = {"label", "text", "help"}
HELPERS = {  # Markdown of ours
    "finding": (2,),
    "refused": (1,),
    "number": (1,),
    "menu": (1,),
    "switch": (1,),
    "one_of": (0,),
    "answer": (0,),
    "export_menu": (0,),
}
TRUSTED = {
    "pages/views/boxes.py",
    "pages/state/widget_state.py",
    "pages/forms/export.py",
    "pages/views/lessons/step.py",
}  # where those are defined
VALUES = {"metric": 3, "page_link": 0, "progress": 0}  # how many of the first arguments are Markdown, where not one
SAFE = {"literal", "code", "term_help"}  # the last: sentences of docs/glossary.md, which is ours
NUMBER = set("dfg%,e")  # what ends a format of numbers


def complaints(path: str, source: str) -> list[str]:
    """Places where a string from elsewhere may be read as Markdown."""
    tree = ast.parse(source)
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    own = _own(tree)
    found = [
        f"{path}:{node.lineno}: st.{node.attr} is passed on; call a function of boxes.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in BOXES and node not in called and _is_st(node.value)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            places = HELPERS.get(node.func.id, ())
            ours = [node.args[at] for at in places if at < len(node.args)]
            found += [f"{path}:{node.lineno}: {ast.unparse(x)[:60]} is not ours" for x in ours if not _safe(x, own)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            for words in _markdown_of(node):
                if not _safe(words, own):
                    found.append(f"{path}:{node.lineno}: {node.func.attr}({ast.unparse(words)[:60]}) is not literal")
            if any(k.arg == "unsafe_allow_html" for k in node.keywords):
                found.append(f"{path}:{node.lineno}: HTML")
    return sorted(found)


def _markdown_of(call: ast.Call) -> list[ast.expr]:
    name = call.func.attr
    if name not in BODY | {*VALUES} or (name == "table" and not _is_st(call.func.value)):
        return []
    return [*call.args[: VALUES.get(name, 1)], *(k.value for k in call.keywords if k.arg in NAMED)]


def _own(tree: ast.Module) -> set[str]:
    """Names that only ever hold words of this file: each assignment is safe, and no function takes them."""
    taken = {
        a.arg
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.Lambda)
        for a in (*f.args.args, *f.args.kwonlyargs)
    }
    given: dict[str, list[ast.expr]] = {}
    loose: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    given.setdefault(target.id, []).append(node.value)
                else:
                    loose |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.For | ast.comprehension):
            loose |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
    own: set[str] = set()
    for _ in range(3):  # a name made of names
        own = {n for n, values in given.items() if n not in taken | loose and all(_safe(v, own) for v in values)}
    return own


def _safe(words: ast.expr, own: set[str]) -> bool:
    def safe(inner: ast.expr) -> bool:
        return _safe(inner, own)

    match words:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name in own or name.isupper()  # a constant, of this file or imported
        case ast.Subscript(value=ast.Name(id=name)):
            return name.isupper()  # words by key
        case ast.JoinedStr(values=values):
            return all(safe(value) for value in values)
        case ast.FormattedValue(value=value, format_spec=form):
            return safe(value) if form is None else form.values[-1].value[-1] in NUMBER
        case ast.Call(func=ast.Name(id=name)) if name in SAFE:
            return True
        case ast.Call(func=ast.Name(id="number_of"), args=[_, *inner]):
            return all(safe(word) for word in inner)  # a number, which it formats, and words of ours
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[one]):
            return safe(one)
        case (
            ast.Call(func=ast.Name(id="list"), args=[one])
            | ast.Call(func=ast.Attribute(value=one, attr="values" | "strip" | "rstrip"), args=_)
        ):
            return safe(one)
        case ast.Call(func=ast.Attribute(value=ast.Call() as one, attr="set_index")):
            return safe(one)
        case ast.Call(func=ast.Attribute(attr="map"), args=[ast.Name(id=name)]):
            return name in SAFE  # every cell of a table
        case ast.GeneratorExp(elt=one) | ast.ListComp(elt=one):
            return safe(one)
        case ast.IfExp(body=one, orelse=two) | ast.BinOp(left=one, right=two):
            return safe(one) and safe(two)
        case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            return all(safe(value) for value in values)
    return False


def _is_st(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "st"


def test_every_page_says_foreign_words_as_they_are_written():
    paths = {str(file.relative_to(ROOT)) for file in (ROOT / "app.py", *(ROOT / "pages").rglob("*.py"))}
    assert paths > TRUSTED
    assert len(paths) > 80
    assert [one for path in sorted(paths - TRUSTED) for one in complaints(path, (ROOT / path).read_text())] == []


WRONG = [
    "st.error(str(problem))",
    'refused("x", problem)',
    "one_of(loaded.name, names, key)",
    "st.error(problem)",
    'st.info(f"**{picked.model}** is gone")',
    'left.caption("Text: " + result.text)',
    "st.badge(loaded.name)",
    'st.button("Load", help=note)',
    "(st.success if good else st.warning)(sentence)",
    'st.markdown("x", unsafe_allow_html=True)',
    'said = f"run {name}"\nst.caption(said)',
    "def f(said):\n    st.caption(said)",
    "for said in sentences:\n    st.caption(said)",
    'st.metric("Name", loaded.name)',
    'bar.progress(0.5, text=f"{job.label}")',
    'st.expander(f"{task:>10}")',
    'st.caption(f"{number_of(3, name)} left")',
]


@pytest.mark.parametrize("source", WRONG)
def test_a_wrong_page_is_caught(source):
    assert len(complaints("pages/new.py", source)) >= 1


RIGHT = [
    'st.error(literal(problem), icon=":material/error:")',
    'st.info(f"**{literal(name)}** has {count:d} of {share:.0%}")',
    'said = "a" if good else f"b {code(path)}"\nst.caption(said)',
    "st.caption(HELP[kind])",
    "st.caption(f\"{number_of(len(runs), 'run')} left\")",
    'st.dataframe(table, alt=f"What {name} is")',
    "box = st.columns(2)",
]


@pytest.mark.parametrize("source", RIGHT)
def test_a_right_page_is_not(source):
    assert complaints("pages/new.py", source) == []
