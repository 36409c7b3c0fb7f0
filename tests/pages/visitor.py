"""What a visitor does in an AppTest: find a button, wait for background work, read the page."""

from __future__ import annotations

import html
import json
import threading
import time

from streamlit.testing.v1 import AppTest

from qroar_core.escape import JOINER
from qroar_core.progress import Step

PATIENCE = 30.0  # seconds


def button(app, label):
    """The button of this label."""
    return next(b for b in app.button if b.label == label)


def clicked(app, label):
    """Click the button of this label and wait for what it starts."""
    button(app, label).click().run()
    return settled(app)


def go(app, page):
    """Open a page by its file's name."""
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def visit(app, **parameters):
    """Another visitor, with an address."""
    other = AppTest.from_file(app._script_path, default_timeout=30)
    other.query_params.update(parameters)
    return other.run()


def open_folder(app, path):
    """Open a run folder from elsewhere."""
    go(app, "runs")
    app.text_input(key="run folder path").set_value(str(path))
    return clicked(app, "Open folder")


def settled(app):
    """Run the page until no job is active, as the polling fragment does in a browser."""
    from pages.state.session import manager

    end = time.monotonic() + PATIENCE
    while not manager().idle() and time.monotonic() < end:
        time.sleep(0.02)
    app.run()
    assert not app.exception, [e.value for e in app.exception]
    return app


def read(markdown):
    """Markdown as a reader sees what was escaped in it; emphasis of ours stays as it is written."""
    return html.unescape(str(markdown)).replace(JOINER, "")


def texts(app):
    """Everything the page says in boxes, captions and markdown."""
    kinds = (
        app.info,
        app.success,
        app.warning,
        app.error,
        app.caption,
        app.markdown,
        app.title,
        app.header,
        app.subheader,
    )
    return "\n".join(read(e.value) for kind in kinds for e in kind)


def titles(app):
    """What stands above the figures."""
    return [read(heading.value) for heading in app.subheader]


class Held:
    """A stage that reports one step and then waits until it is let go."""

    def __init__(self, answer=None, detail=None):
        self.open, self.answer, self.detail = threading.Event(), answer, detail

    def __call__(self, *args, on_step=None, **kwargs):
        while not self.open.wait(0.02):
            on_step(Step("held", 1, 4, "reading window 1", self.detail))
        return self.answer


def wait_for_step(app):
    """Until the running job, a `Held` stage, has reported."""
    from pages.state.session import manager

    for _ in range(500):
        now = manager().busy()
        if now is not None and now.step is not None and now.step.stage == "held":
            break
        time.sleep(0.01)
    app.run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]


def unevaluated(folder, **noted):
    """Make of a whole run one that ended before its evaluation."""
    (folder / "evaluation.json").unlink()
    said = json.loads((folder / "manifest.json").read_text()) | noted
    said["stages"].pop("evaluate", None)
    (folder / "manifest.json").write_text(json.dumps(said))
