"""Every page as it looks and as it is used without a mouse, with a finished run of the command line in view.

Screenshots of every page in both themes go to $QROAR_SHOTS, where it is set.
"""

import json
import os
import re
import subprocess
import sys
from urllib.parse import quote

import pytest

from pages.state.lessons import LESSONS
from qroar_core.runs.record import read_record
from qroar_core.runs.stage_files import file_of
from qroar_core.specs import ComparisonSpec
from tests.helpers import planted_comparison
from tests.helpers.planted_sweep import write_sweep
from tests.pages.browser import looks, walk
from tests.pages.browser.walk import LONG, PAGES, ROOT, SHORT, go

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MIDDLE = 1280  # pixels
READ_AT = (MIDDLE, 800)
WIDE = (1440, 2560)  # pages grow no further between them
FIRST_SCREEN = 900  # pixels, of 1440 x 900
STOPS = 27  # presses of Tab from an empty Start page to a started search
FIGURES = {f"Learn {lesson}": 2 if lesson == "aliasing" else 1 for lesson in LESSONS}
FIGURES |= {"Bands": 1, "Pressure": 6, "Tails": 4, "Outliers": 11, "Noise": 11, "Tune": 2, "Evaluate": 6}
FIGURES |= {"Remedies": 4, "Overview": 5, "Trade-off": 1}
SAID = re.compile(r"^(Significant gain: |No significant gain: keep identity)")
FOCUS = """() => {
  const e = document.activeElement;
  const labels = e.getAttribute('aria-labelledby');
  const by = labels && labels.split(' ').map(i => document.getElementById(i)?.innerText).join(' ');
  const named = e.getAttribute('aria-label') || by || e.labels?.[0]?.innerText || e.innerText || e.title
    || e.querySelector('[aria-label]')?.getAttribute('aria-label') || '';
  const control = e.matches('button, input, textarea, a, summary, [role=slider], [role=combobox]');
  return [e === document.body ? 'body' : e.tagName.toLowerCase(), named.trim(), control];
}"""  # the browser also stops at boxes that scroll and at the canvas of Streamlit's tables
REACHABLE = """() => [...document.querySelectorAll(
    '[data-testid=stMain] :is(button, input, textarea, a[href], summary, [role=slider], [role=combobox])')]
  .filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && e.type !== 'file')
  .filter(e => [e, undefined].includes(e.closest('[data-testid=stButtonGroup]')?.querySelector('button')))
  .length"""  # a group of buttons is one stop, the arrow keys move inside it


@pytest.fixture(scope="module")
def finished(dashboard):
    """The address part of a whole run on the demo model, made without a browser, with what is planted beside it.

    A comparison in the run, and a sweep that the Trade-off page shows.
    """
    command = [sys.executable, "-m", "qroar_core", "run", "demo", "--out", str(dashboard.runs / "demo")]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    asked = read_record(dashboard.runs / "demo").setting
    reading = asked.evaluation
    spec = ComparisonSpec(search=asked.search, windows=reading.windows, seed=reading.seed, fewer=reading.fewer)
    name = file_of(("compare", "", "", "", asked.reading, asked.rope, asked.quant, spec))
    planted = planted_comparison.comparison(planted_comparison.COST | {"kvquant": 0.0})  # recovers all
    planted = planted.model_copy(update={"layers": planted_comparison.layers()})
    (dashboard.runs / "demo" / name).write_text(planted.to_json())
    write_sweep(dashboard.home / "sweep")
    opened = quote(json.dumps({"folder": str(dashboard.home / "sweep")}))
    return f"{dashboard.address}/?run=demo&tradeoff={opened}"


@pytest.fixture
def viewed(visit, finished):
    """Opens the run in a new tab."""

    def opened(**look):
        page = visit(**look)
        page.goto(finished)
        offered, there = page.get_by_role("button", name="Load demo"), page.get_by_text("Rescaling can act here").first
        offered.or_(there).first.wait_for(timeout=SHORT)
        if offered.count():
            offered.click()
            there.wait_for(timeout=SHORT)
        return page

    return opened


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_in_both_themes(viewed, shots, theme):
    """One walk through all pages, because a walk is what takes the time; every fault is said, with its part and width.

    Contrast of every text, words that do not fit, controls out of the window, the size of axis text, and no page wider
    than its window; every figure is there and says what it shows. Tab needs one theme only, and so do wide windows.
    """
    page, faults = viewed(theme=theme), []
    light = theme == "light"
    for name in PAGES:
        page.set_viewport_size({"width": MIDDLE, "height": 900})
        go(page, name)
        for part in walk.parts(page, name):
            drawn_all(page, part)
            if light:
                faults += [(part, "tab", *fault) for fault in unreached(page)]
            for width in READ_AT if light else (MIDDLE,):
                look_at(page, width)
                walk.settle(page)
                seen = {what: page.evaluate(script) for what, script in looks.EVERYTHING.items()}
                faults += [(part, width, what, found) for what, found in seen.items() if found]
                walk.shoot(page, shots / f"{part.lower().replace(' ', '-')}-{theme}-{width}.png")
            for width in WIDE if light else ():
                look_at(page, width)
                end = page.evaluate(looks.BELOW)
                if end is not None and end > FIRST_SCREEN:  # the answer of a page
                    faults.append((part, width, "below the first screen", end))
                if over := page.evaluate(looks.SIDEWAYS):
                    faults.append((part, width, "sideways", over))
            look_at(page, MIDDLE)
            faults += [(part, "figures", *fault) for fault in without_figures(page, part)]
            if page.get_by_test_id("stException").count():
                faults.append((part, "exception"))
            walk.shoot(page, shots / f"{part.lower().replace(' ', '-')}-{theme}.png")
    assert not faults


def look_at(page, width):
    """A window of that width, once what is in it has taken its new place."""
    if page.viewport_size["width"] != width:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(600)


def without_figures(page, part):
    """What is wrong with the figures of a part, those in folds included: their number, and what they say they show."""
    if part not in FIGURES:
        return
    drawn_all(page, part, folded=True)
    if (count := page.locator(".js-plotly-plot").count()) != FIGURES[part]:
        yield ("number", count)
    alts = page.get_by_test_id("stPlotlyChart").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    if len(alts) != FIGURES[part] or not all(alt and len(alt) > 60 for alt in alts):
        yield ("text instead", alts)


def unreached(page):
    """Controls of the page that Tab does not come to, and those that have no name."""
    page.evaluate("document.activeElement.blur()")
    page.get_by_role("heading", level=1).first.click()
    page.mouse.move(0, 0)  # over a slider it would bring up the ends of its range
    wanted, seen = page.evaluate(REACHABLE), []
    for _ in range(wanted + 60):
        page.keyboard.press("Tab")
        seen.append(tuple(page.evaluate(FOCUS)))
        if seen[-1][0] == "body":
            break
    stops = seen[:-1]
    yield from (("no name", tag) for tag, label, control in stops if control and not label)
    if len(stops) < wanted:
        yield ("not reached", wanted, stops)


def test_the_menu_leaves_its_room_to_the_page_and_an_idle_one_ends_without_a_line(dashboard, viewed):
    """Streamlit lays out the menu 300 pixels wide where it draws it before the page's own width has come."""
    page = viewed()
    menu, line = page.get_by_test_id("stSidebar"), page.get_by_test_id("stSidebarNavSeparator")
    for told, wide, window in ((300, 200, 1280), (260, 260, 1280), (300, 140, 800)):  # 260: drawn so by hand
        page.set_viewport_size({"width": window, "height": 900})
        page.evaluate("wide => localStorage.setItem('sidebarWidth', wide)", told)
        page.reload()
        page.get_by_text("Rescaling can act here").first.wait_for(timeout=SHORT)
        walk.settle(page)
        walk.soon(page, lambda: menu.evaluate("e => e.getBoundingClientRect().width"), wide)  # it slides there
    assert line.evaluate("e => getComputedStyle(e).visibility") == "hidden"
    page.goto(f'{dashboard.address}/tune?model=demo&search={{"steps":30}}')
    with dashboard.holding(0):
        walk.press(page, "Start the search")
        menu.get_by_text("1 job").wait_for(timeout=SHORT)
        assert line.evaluate("e => getComputedStyle(e).visibility") == "visible"
        page.get_by_role("button", name="Cancel").first.click()
        menu.get_by_text("1 job").wait_for(timeout=LONG, state="detached")


def test_no_menu_of_the_setting_that_nobody_has_touched_is_cut_in_a_narrow_window(dashboard, visit):
    """An opened run says how its windows start: here the tokenizer's own way is in force."""
    page = visit(width=800)
    page.goto(dashboard.address)
    walk.load_demo(page)
    walk.settle(page)
    assert not page.evaluate(looks.CUT)


def test_a_search_is_reached_by_few_keys_and_focus_survives_a_load(dashboard, visit):
    page, pressed = visit(), 0
    page.goto(f'{dashboard.address}/?search={{"steps":20}}')
    page.get_by_role("button", name="Demo model").wait_for(timeout=SHORT)
    walk.settle(page)

    def tab_to(name):
        nonlocal pressed
        seen = []
        for _ in range(STOPS):
            page.keyboard.press("Tab")
            pressed += 1
            _, named, control = page.evaluate(FOCUS)
            seen.append(named[:40])
            if control and name in named:  # a box that scrolls holds every word of the page
                return page.keyboard.press("Enter")
        raise AssertionError(f"{name} is not among {STOPS} stops: {seen}")

    tab_to("Skip to main content")
    tab_to("Demo model")
    page.get_by_text("Rescaling can act here").first.wait_for(timeout=LONG)
    walk.settle(page)
    tag, named, _ = page.evaluate(FOCUS)
    assert (tag, named.split("\n")[-1]) == ("button", "Demo model")  # below its icon; body's text has both too
    tab_to("Search scales for this setup")
    page.get_by_role("heading", level=1, name="Tune").wait_for(timeout=SHORT)
    walk.settle(page)
    tab_to("Start the search")
    page.get_by_test_id("stAlert").get_by_text(SAID).wait_for(timeout=LONG)
    assert pressed <= STOPS


def drawn_all(page, name, folded=False):
    """Wait for the figures of a page; those in folds, which are opened, where they are asked for."""
    if name not in FIGURES:
        return
    if folded:
        walk.unfold(page)
        last = page.locator(".js-plotly-plot .main-svg").nth(3 * FIGURES[name] - 1)
        last.wait_for(timeout=LONG, state="attached")
    else:
        page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=LONG, state="attached")
        page.wait_for_timeout(500)
    walk.settle(page)


def test_focus_stays_on_the_button_that_loads_the_model_of_a_link(dashboard, visit):
    dashboard.stop()
    dashboard.start()  # no model is in its memory
    page, ran = visit(), len(dashboard.jobs())
    page.goto(f"{dashboard.address}/?model=demo")
    button = page.get_by_role("button", name="Load demo")
    button.wait_for(timeout=LONG)
    walk.settle(page)
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_text("Rescaling can act here").first.wait_for(timeout=LONG)
    walk.settle(page)
    tag, named, _ = page.evaluate(FOCUS)
    assert (tag, named.split("\n")[-1]) == ("button", "demo is loaded")
    page.keyboard.press("Enter")
    walk.settle(page)
    assert dashboard.jobs()[ran:] == ["Load demo"]
