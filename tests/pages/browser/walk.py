"""What a visitor does in Chromium: change page, read numbers, find a figure, click a cell, take a picture."""

import json
import os
import shutil
import time
from pathlib import Path

from playwright.sync_api import TimeoutError

from pages.state.lessons import LESSONS, named

ROOT = Path(__file__).parents[3]
SLOWNESS = float(os.environ.get("QROAR_SLOWNESS", "1"))  # of a machine that computes something else beside the tests
LONG = 240_000 * SLOWNESS  # milliseconds; a stage on two shared cores
SHORT = 60_000 * SLOWNESS
PAGES = {
    "Start": "demo",
    "Overview": "Overview",
    "Learn": "The mechanism by hand",
    "Bands": "Bands",
    "Pressure": "Pressure",
    "Tails": "Tails",
    "Outliers": "Outliers",
    "Noise": "Noise",
    "Tune": "Tune",
    "Evaluate": "Evaluate",
    "Remedies": "Compare remedies",
    "Sweep": "Measure many setups",
    "Trade-off": "Loss against memory",
    "Retrieval": "Retrieval",
    "Evidence": "Evidence",
    "Export": "Export",
    "Runs": "Runs",
}


def chromium_path():
    """The browser that the environment names, else the first that is installed; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("QROAR_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def go(page, name, heading=None):
    """Change page by the sidebar, as a person does."""
    page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
    page.get_by_role("heading", level=1, name=heading or PAGES[name]).wait_for(timeout=SHORT)
    settle(page)


def settle(page):
    """Wait until no script runs and nothing stale is shown; running jobs redraw by themselves and do not count."""
    page.wait_for_timeout(250)
    page.wait_for_function(
        "() => document.querySelector('.stApp')?.dataset.testScriptState !== 'running'"
        " && !document.querySelector('[data-stale=\"true\"]')",
        timeout=SHORT,
    )


def unfold(page, words=""):
    """Open every closed fold whose line has these words: what it holds is drawn then, see `render.folded`."""
    closed = page.locator("[data-testid=stExpander] details:not([open]) > summary").filter(has_text="unfold_more")
    while (left := closed.filter(has_text=words)).count():
        left.first.click(timeout=SHORT)
        settle(page)


def press(page, name):
    """Start a job by its button, and see it run. A click that lands while the page redraws is lost: click again."""
    button, cancel = page.get_by_role("button", name=name, exact=True), page.get_by_role("button", name="Cancel")
    button.click(timeout=SHORT)
    try:
        cancel.first.wait_for(timeout=10_000 * SLOWNESS)
    except TimeoutError:
        button.click(timeout=SHORT)
        cancel.first.wait_for(timeout=SHORT)


def choose(page, name):
    """Pick one of a row of buttons that stand for a choice."""
    either = page.get_by_role("radio", name=name).or_(page.get_by_role("button", name=name, exact=True))
    either.first.click(timeout=LONG)


def parts(page, name):
    """What a page shows one at a time, each once it is there: the lessons of Learn; of another page all of it."""
    if name != "Learn":
        yield name
        return
    for lesson, (_, question) in LESSONS.items():
        choose(page, named(lesson))
        page.get_by_role("heading", level=2).filter(has_text=question).wait_for(timeout=SHORT)
        settle(page)
        yield f"{name} {lesson}"


def load_demo(page):
    """One click; returns the seconds until the model's setting is there."""
    clicked = time.monotonic()
    page.get_by_role("button", name="Demo model").click(timeout=SHORT)
    page.get_by_text("Rescaling can act here").first.wait_for(timeout=SHORT)
    return time.monotonic() - clicked


def status_bar(page):
    """The status bar of every page after Start."""
    return page.locator(".st-key-status_bar")


def metrics(page):
    """The metric boxes, label -> text."""
    boxes = page.get_by_test_id("stMetric").all()
    return {
        box.get_by_test_id("stMetricLabel").inner_text().strip(): box.get_by_test_id("stMetricValue").inner_text()
        for box in boxes
    }


def chart(page, key):
    """The figure drawn under this key."""
    return page.locator(
        f".st-key-{key.replace(' ', '-')} .js-plotly-plot"
    ).last  # while a page redraws, the old is there


def drawn(page, key):
    """What the figure of this key shows: its traces as plotly holds them, typed arrays as lists."""
    chart(page, key).locator(".main-svg").first.wait_for(timeout=SHORT)
    settle(page)
    read = """e => JSON.stringify((e._fullData || []).map(({name, x, y, z, text}) => ({name, x, y, z, text})),
                                  (key, value) => ArrayBuffer.isView(value) ? [...value] : value)"""
    return json.loads(chart(page, key).evaluate(read))


def click_at(page, key, x, y):
    """Click the figure of this key at (x, y) in the units of its axes."""
    figure = chart(page, key)
    figure.scroll_into_view_if_needed()
    at = figure.evaluate(
        "(e, [x, y]) => { const l = e._fullLayout, b = e.getBoundingClientRect();"
        " return [b.left + l.xaxis._offset + l.xaxis.d2p(x), b.top + l.yaxis._offset + l.yaxis.d2p(y)]; }",
        [x, y],
    )
    page.mouse.move(at[0] - 3, at[1])
    page.mouse.move(*at)
    page.wait_for_timeout(300)  # plotly hovers before it clicks
    page.mouse.click(*at)


def soon(page, read, wanted):
    """Assert that `read()` becomes `wanted`: boxes of a page are drawn one by one."""
    end = time.monotonic() + SHORT / 2000
    while (seen := read()) != wanted and time.monotonic() < end:
        page.wait_for_timeout(200)
    assert seen == wanted


def read_json(folder: Path, name):
    """A result on disk."""
    return json.loads((folder / name).read_text())


def the_run(runs: Path) -> Path:
    """The one run folder that a journey under one setting has made."""
    (only,) = [path for path in runs.iterdir() if path.is_dir()]
    return only


def shoot(page, path):
    """The whole page as a picture, once it has come to rest; only where somebody asked, as it takes its time."""
    if "QROAR_SHOTS" not in os.environ:
        return
    page.wait_for_timeout(700)
    before = page.viewport_size
    height = page.get_by_test_id("stMain").evaluate("e => e.scrollHeight")
    page.set_viewport_size({"width": before["width"], "height": min(6000, max(900, height + 40))})
    page.wait_for_timeout(900)
    page.screenshot(path=str(path))
    page.set_viewport_size(before)
