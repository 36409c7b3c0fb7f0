"""Every page as it looks and as it is used without a mouse, with a finished run of the command line in view.

Screenshots of every page in both themes go to $QROAR_SHOTS, where it is set.
"""

import os
import re
import subprocess
import sys

import pytest

from pages.state.lessons import QUESTIONS
from qroar_core.runs.record import read_record
from qroar_core.runs.stage_files import file_of
from qroar_core.specs import ComparisonSpec
from tests.helpers import planted_comparison
from tests.pages.browser import looks, walk
from tests.pages.browser.walk import LONG, PAGES, ROOT, SHORT, go

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WIDTHS = (800, 1280, 1440, 1920, 2560)
READ_AT = {
    "light": (1280, 800),
    "dark": (1280, 800),
}  # pixels; all three widths in both themes take a quarter of an hour
STOPS = 26  # presses of Tab from an empty Start page to a started search
FIGURES = {f"Learn {lesson}": 2 if lesson == "aliasing" else 1 for lesson in QUESTIONS}
FIGURES |= {"Bands": 1, "Pressure": 6, "Tails": 4, "Outliers": 11, "Noise": 11, "Tune": 2, "Evaluate": 6}
FIGURES |= {"Remedies": 2}
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
    """The address part of a whole run on the demo model, made without a browser, and a planted comparison in it."""
    command = [sys.executable, "-m", "qroar_core", "run", "demo", "--out", str(dashboard.runs / "demo")]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    asked = read_record(dashboard.runs / "demo").setting
    reading = asked.evaluation
    spec = ComparisonSpec(search=asked.search, windows=reading.windows, seed=reading.seed, fewer=reading.fewer)
    name = file_of(("compare", "", "", "", asked.reading, asked.rope, asked.quant, spec))
    planted = planted_comparison.comparison(planted_comparison.COST | {"kvquant": 0.0})  # recovers all
    (dashboard.runs / "demo" / name).write_text(planted.to_json())
    return f"{dashboard.address}/?run=demo"


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
    """Pictures of all pages; every figure is there, says what it shows, and no page is wider than its window."""
    page = viewed(theme=theme)
    for name in PAGES:
        go(page, name)
        for part in walk.parts(page, name):
            if part in FIGURES:
                drawn_all(page, part, folded=True)
                figures = page.locator(".js-plotly-plot")
                assert figures.count() == FIGURES[part], part
                alts = page.get_by_test_id("stPlotlyChart").evaluate_all(
                    "all => all.map(e => e.getAttribute('aria-label'))"
                )
                assert len(alts) == FIGURES[part]
                assert all(alt and len(alt) > 60 for alt in alts), (part, alts)
            assert page.get_by_test_id("stException").count() == 0, part
            walk.shoot(page, shots / f"{part.lower().replace(' ', '-')}-{theme}.png")


def test_no_page_scrolls_sideways_from_800_to_2560(viewed):
    page = viewed()
    for name in PAGES:
        go(page, name)
        for part in walk.parts(page, name):
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 1000})
                page.wait_for_timeout(300)
                wide = page.get_by_test_id("stMain").evaluate("e => [e.scrollWidth, e.clientWidth]")
                assert wide[0] <= wide[1], (part, width, wide)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (part, width)


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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_is_readable_and_none_is_cut(viewed, shots, theme):
    """Contrast of every text, words that do not fit, controls out of the window, and the size of axis text."""
    page = viewed(theme=theme)
    for name in PAGES:
        page.set_viewport_size({"width": READ_AT[theme][0], "height": 900})
        go(page, name)
        for part in walk.parts(page, name):
            drawn_all(page, part)
            for width in READ_AT[theme]:
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_timeout(900)
                walk.settle(page)
                seen = {what: page.evaluate(script) for what, script in looks.EVERYTHING.items()}
                walk.shoot(page, shots / f"{part.lower().replace(' ', '-')}-{theme}-{width}.png")
                assert not any(seen.values()), (part, width, seen)


def test_no_word_of_a_figure_lies_on_its_intervals(viewed):
    page = viewed(width=800)
    go(page, "Remedies")
    drawn_all(page, "Remedies")
    for width in (800, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(900)
        walk.settle(page)
        assert not page.evaluate(looks.ON_BARS), width


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
    tab_to("Search scales for this setting")
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


def test_every_control_is_reached_by_tab_and_has_a_name(viewed):
    page = viewed()
    for name in PAGES:
        go(page, name)
        for part in walk.parts(page, name):
            if part in FIGURES:
                page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=LONG)
                walk.settle(page)
            page.evaluate("document.activeElement.blur()")
            page.get_by_role("heading", level=1).first.click()
            wanted, seen = page.evaluate(REACHABLE), []
            for _ in range(wanted + 60):
                page.keyboard.press("Tab")
                seen.append(tuple(page.evaluate(FOCUS)))
                if seen[-1][0] == "body":
                    break
            stops = seen[:-1]
            nameless = [tag for tag, label, control in stops if control and not label]
            assert not nameless, (part, nameless)
            assert len(stops) >= wanted, (part, wanted, stops)


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
