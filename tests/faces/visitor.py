"""What a visitor does in an AppTest: find a button, wait for background work, read the page."""

from __future__ import annotations

import time

PATIENCE = 30.0  # seconds


def button(app, label):
    """The button of this label."""
    return next(b for b in app.button if b.label == label)


def settled(app):
    """Run the page until no job is active, as the polling fragment does in a browser."""
    from pages.parts.session import manager

    end = time.monotonic() + PATIENCE
    while not manager().idle() and time.monotonic() < end:
        time.sleep(0.02)
    app.run()
    assert not app.exception, [e.value for e in app.exception]
    return app


def texts(app):
    """Everything the page says in boxes, captions and markdown."""
    kinds = (app.info, app.success, app.warning, app.error, app.caption, app.markdown, app.title)
    return "\n".join(str(e.value) for kind in kinds for e in kind)
