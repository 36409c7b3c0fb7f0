"""Every page with a model, results and runs that hold links, pictures, HTML, LaTeX and directives in every string.

Whether the escaped text is shown letter by letter is asked of a real browser (browser/test_browser_safety.py); here no
page may hand one of the strings over unescaped.
"""

import json
import re
import shutil

import pytest
from google.protobuf.json_format import MessageToDict
from streamlit.testing.v1 import AppTest

from pages.state.session import library
from tests.helpers import hostile
from tests.pages.visitor import button, clicked, go, read, texts

pytestmark = pytest.mark.slow
LIVE = (
    "![x](",
    "[text](",
    "[text][",
    "<img",
    "<iframe",
    "<https",
    "<b>",
    "https://example",
    "www.example",
    "$x^2$",
    ":red[",
    ":material/home",
    ":smile:",
    ":::box",
    "**bold**",
    "`code`",
    "me@example",
)
PLAIN = {  # fields of Streamlit's messages that are shown as text, or not at all
    "options",
    "default",
    "placeholder",
    "id",
    "rawOptions",
    "alt",
    "url",
    "fileName",
    "documentName",
    "elementId",
    "data",
    "arrowData",
    "columns",
    "value",
    "defaultValue",
    "rawValue",
    "userKey",
    "formId",
    "pageScriptHash",
}
HTML = re.compile(r"</?(?!(?:div|span)\b)[a-zA-Z!]")
TAG = re.compile(r"<(?!(?:br|/?b|/?i|/?sub|/?sup|/?extra)>)[a-zA-Z/!]")
OURS = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")  # a span of code is text already
CLICKS = {
    "pressure": ("Diagnose",),
    "tails": (),
    "outliers": (),
    "noise": (),
    "bands": (),
    "tune": ("Start the search",),
    "evaluate": ("Evaluate", "Continue the prompt"),
    "remedies": ("Run the comparison",),
    "retrieval": ("Test retrieval",),
    "evidence": ("Run the controls", "Test the claims", "Round each band alone", "Choose the interpolation"),
    "export": (),
    "runs": (),
    "start": (),
}


@pytest.fixture
def poisoned(stages):
    for at, answer in hostile.stages().items():
        stages.patch(at, answer)
    # words that do not fit their numbers make a run unreadable, and so no longer reach a page; here they must
    stages.patch("qroar_core.runs.run_files._disagreement", lambda *_: "")


def strings(message, path=""):
    """(path, text) of everything in a message that the browser reads as Markdown or as Plotly's HTML."""
    for key, value in message.items() if isinstance(message, dict) else enumerate(message):
        at = f"{path}.{key}"
        if key == "spec" and isinstance(value, str):
            yield from strings({"plotly": json.loads(value)}, at)
        elif key in PLAIN:
            continue
        elif isinstance(value, str):
            yield at, value
        elif isinstance(value, dict | list):
            yield from strings(value, at)


def live(app):
    """What a page hands over that would be more than text."""
    out = []
    for element in app.main:
        out += [f"{at}: {text[:80]}" for at, text in _in(element) if _is_live(at, text)]
    return out


def _in(block):
    message = MessageToDict(block.proto) if block.proto is not None else {}
    yield from strings(message, block.type)
    for child in getattr(block, "children", {}).values():
        yield from _in(child)


def _is_live(at, text):
    if at.startswith("html"):
        return bool(HTML.search(text))
    if at.startswith("code"):
        return False
    if ".plotly" in at:
        return bool(TAG.search(text))
    return any(mark in OURS.sub("", text) for mark in LIVE)


def test_no_page_hands_a_foreign_string_over_as_markup(app, poisoned, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    clicked(app, "Demo model")
    assert app.title[0].value
    seen, full = {}, set()
    for page, labels in CLICKS.items():
        go(app, page)
        for label in labels:
            clicked(app, label)
        assert not app.error, (page, [e.value for e in app.error])
        seen[page] = live(app)
        full |= {page} if hostile.STRINGS[0][:12] in texts(app) else set()
    assert seen == {page: [] for page in CLICKS}
    assert full == {*CLICKS}  # the strings are there, as text


def test_runs_from_elsewhere_whose_folders_are_called_so(app, poisoned, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    clicked(app, "Demo model")
    finish(app)
    (folder,) = [entry.path for entry in library().entries()]
    for name in (hostile.NAME, f"{hostile.NAME} 2"):
        shutil.copytree(folder, tmp_path / name)
        opened(app, tmp_path / name)
        assert not app.error, [e.value for e in app.error]
        assert live(app) == []
    compared = app.multiselect(key="compare")
    compared.set_value([str(tmp_path / name) for name in (hostile.NAME, f"{hostile.NAME} 2")]).run()
    assert len(app.get("plotly_chart")) == 2
    assert live(app) == []


def test_a_run_that_cannot_be_read_says_so_in_its_own_words(app, poisoned, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    (tmp_path / hostile.NAME).mkdir()
    (tmp_path / hostile.NAME / "manifest.json").write_text(json.dumps({hostile.ALL: hostile.ALL}))
    opened(app, tmp_path / hostile.NAME)
    assert hostile.NAME in read(app.error[0].value)
    assert live(app) == []


@pytest.mark.parametrize("asked", hostile.STRINGS[:5])
def test_a_link_names_a_model_that_is_no_model(app, poisoned, asked):
    other = AppTest.from_file(app._script_path, default_timeout=30)
    other.query_params["model"] = asked
    other.run()
    assert live(other) == []
    label = next(b.label for b in other.button if b.label.startswith("Load "))
    assert asked[:20] in read(label)
    go(other, "noise")
    assert live(other) == []
    assert asked[:20] in texts(other)


def finish(app):
    for page, label in (("tune", "Start the search"), ("evaluate", "Evaluate")):
        go(app, page)
        clicked(app, label)


def opened(app, path):
    """Open a run folder from elsewhere, as a person types it."""
    go(app, "runs")
    app.text_input(key="run folder path").set_value(str(path))
    button(app, "Open folder").click().run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
