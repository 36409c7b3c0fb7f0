"""What a person typed or clicked is not lost: by a page change, a reload, a redraw under the mouse, or Back."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import TimeoutError

from pages.views.job_queue import IDLE
from tests.pages.browser import walk
from tests.pages.browser.walk import LONG, SHORT, go, settle, soon

pytestmark = [pytest.mark.browser, pytest.mark.slow]
OWN = "The committee met on Tuesday, and what it decided was read out on Wednesday."
PRESS = 400  # milliseconds a slow hand holds the button: longer than a page takes to begin to redraw
REST = 2.0  # seconds that a run of the page rests above the button


@pytest.fixture
def page(dashboard, visit):
    """A visitor with the demo model."""
    page = visit()
    page.goto(dashboard.address)
    walk.load_demo(page)
    settle(page)
    return page


def field(page, label):
    return page.get_by_label(label, exact=True).first


def typed(page, label, value):
    """Type into a field and leave it there: no Tab, no Enter."""
    box = field(page, label)
    box.click()
    box.press("Control+A")
    box.press_sequentially(str(value))


def pressed(page, target, held=PRESS):
    """A slow click, with the mouse alone: what was typed is sent when the button goes down."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(held)
    page.mouse.up()


def asked(page, name):
    """A parameter of the address line."""
    found = parse_qs(urlsplit(page.url).query).get(name)
    return json.loads(found[0]) if found else None


def reloaded(page, heading):
    page.reload()
    page.get_by_role("heading", level=1, name=heading).wait_for(timeout=SHORT)
    settle(page)


def test_one_press_of_back_goes_back_one_page_and_one_choice(page):
    for name in ("Pressure", "Tune"):
        before = page.evaluate("history.length")
        go(page, name)
        soon(page, lambda: page.url.count("model=demo"), 1)
        assert page.evaluate("history.length") == before + 1, name
    page.get_by_role("combobox", name="Mode", exact=True).click()
    page.get_by_role("option", name="shared").click()
    soon(page, lambda: (asked(page, "search") or {}).get("mode"), "shared")
    page.go_back()
    soon(page, lambda: (asked(page, "search") or {}).get("mode"), None)
    soon(page, lambda: page.get_by_role("combobox", name="Mode", exact=True).input_value()[:9], "symmetric")
    for heading in ("Pressure", "demo"):
        page.go_back()
        page.get_by_role("heading", level=1, name=heading, exact=True).wait_for(timeout=SHORT)
        settle(page)
    page.go_forward()
    page.get_by_role("heading", level=1, name="Pressure").wait_for(timeout=SHORT)
    soon(page, lambda: page.url.count("model=demo"), 1)


def test_a_length_that_was_typed_last_goes_along_to_the_next_page(page):
    typed(page, "Context length L, tokens", 512)
    for _ in range(3):  # a click that a redraw moves away from under the mouse is done again, as a person does
        pressed(page, page.get_by_role("link", name="Next: pressure"))
        if opened(page, "Pressure"):
            break
    page.get_by_role("heading", level=1, name="Pressure").wait_for(timeout=SHORT)
    walk.status_bar(page).get_by_text("512 tokens").wait_for(timeout=SHORT)
    assert asked(page, "length") == 512


@pytest.mark.parametrize("held", [20, 60, 100])
def test_what_was_typed_last_goes_along_by_a_quick_click(page, dashboard, held):
    """Its run rests above the forms, where the click that follows finds it; with a job running it always does.

    On a busy machine the browser now and then loses a click of 20 ms itself, as it redraws between press and release:
    then the page stays, and the visitor clicks again. What was typed is there in either case.
    """
    for label, text, name, wanted in (
        ("Tied pairs", "20-21,22-25", "rope", [{"first": 20, "last": 21}, {"first": 22, "last": 25}]),
        ("Factor s", 8, "rope", 8.0),
        ("Frequency bands", 6, "bands", 6),
    ):
        go(page, "Start", heading="demo")
        typed(page, label, text)
        with dashboard.resting(0.5):
            for _ in range(3):
                pressed(page, page.get_by_test_id("stSidebarNavLink").filter(has_text="Tune"), held)
                if opened(page, "Tune"):
                    break
            page.get_by_role("heading", level=1, name="Tune").wait_for(timeout=SHORT)
        field_of = {"Tied pairs": "tie", "Factor s": "factor", "Frequency bands": "count"}[label]
        soon(page, lambda name=name, at=field_of: (asked(page, name) or {}).get(at), wanted)
        settle(page)


def opened(page, name):
    """Does this page open within some seconds?"""
    try:
        page.get_by_role("heading", level=1, name=name).wait_for(timeout=SHORT / 10)
    except TimeoutError:
        return False
    return True


def test_a_click_right_after_typing_counts(page, dashboard):
    go(page, "Pressure")
    typed(page, "Window L, tokens", 640)
    pressed(page, page.get_by_role("button", name="Diagnose", exact=True))
    page.locator(".st-key-unseen-phases").wait_for(timeout=LONG)
    assert dashboard.jobs()[-1] == "Diagnose demo"
    go(page, "Tune")
    page.get_by_text("Options", exact=True).click()
    typed(page, "Gradient steps", 3)
    pressed(page, page.get_by_role("button", name="Start the search"))
    soon(page, lambda: dashboard.jobs()[-1], "Tune demo")
    soon(page, lambda: asked(page, "search")["steps"], 3)
    page.get_by_text("The search, candidate by candidate and in numbers").wait_for(timeout=LONG)
    go(page, "Evaluate")
    typed(page, "Windows of text", 3)
    pressed(page, page.get_by_role("button", name="Evaluate", exact=True))
    page.get_by_role("heading", name="How well is held-out text predicted").wait_for(timeout=LONG)
    assert dashboard.jobs()[-1] == "Evaluate demo"
    assert asked(page, "evaluation")["windows"] == 3


def test_text_of_ones_own_is_there_after_a_page_change(page):
    go(page, "Evaluate")
    page.get_by_text("my own text").click()
    typed(page, "Text to continue", OWN)
    pressed(page, page.get_by_test_id("stSidebarNavLink").filter(has_text="Tune"))
    page.get_by_role("heading", level=1, name="Tune").wait_for(timeout=SHORT)
    settle(page)
    go(page, "Evaluate")
    soon(page, lambda: field(page, "Text to continue").input_value(), OWN)


def test_what_is_asked_beside_the_setting_is_there_after_a_reload(page):
    go(page, "Retrieval", heading="Retrieval")
    typed(page, "Trials per cell", 2)
    page.keyboard.press("Tab")
    soon(page, lambda: (asked(page, "retrieval") or {}).get("trials"), 2)
    reloaded(page, "Retrieval")
    soon(page, lambda: field(page, "Trials per cell").input_value(), "2")
    go(page, "Remedies")
    typed(page, "Windows of text", 5)
    page.keyboard.press("Tab")
    soon(page, lambda: (asked(page, "comparison") or {}).get("windows"), 5)
    reloaded(page, "Remedies")
    soon(page, lambda: field(page, "Windows of text").input_value(), "5")
    go(page, "Evidence")
    typed(page, "Windows of text", 7)
    page.keyboard.press("Tab")
    soon(page, lambda: (asked(page, "claims") or {}).get("spec"), {"windows": 7})
    reloaded(page, "Evidence")
    soon(page, lambda: field(page, "Windows of text").input_value(), "7")


def test_scales_by_hand_are_copied_and_are_there_after_a_reload(page):
    go(page, "Tune")
    page.get_by_role("button", name="Try scales by hand").click()
    page.get_by_text("Cached error:").wait_for(timeout=LONG)
    walk.choose(page, "SmoothAttention")
    page.locator("strong").filter(has_text="SmoothAttention.").first.wait_for(timeout=SHORT)
    page.get_by_role("button", name="Copy to by hand").click(timeout=SHORT)
    soon(page, lambda: len((asked(page, "hand") or {}).get("log2_g", [])), 8)
    settle(page)
    assert page.get_by_test_id("stException").count() == 0
    wanted = asked(page, "hand")["log2_g"]
    assert any(wanted)
    soon(page, lambda: by_sliders(page), wanted)
    reloaded(page, "Tune")
    soon(page, lambda: by_sliders(page), wanted)
    slider(page, 0).focus()
    slider(page, 0).press("ArrowRight")
    soon(page, lambda: asked(page, "hand")["log2_g"] == [pytest.approx(wanted[0] + 0.05, abs=0.03), *wanted[1:]], True)
    moved = asked(page, "hand")["log2_g"]
    assert moved != wanted
    page.go_back()
    soon(page, lambda: by_sliders(page), wanted)


def slider(page, band):
    """The slider of a band."""
    return page.locator(f".st-key-by-hand-{band} [role=slider], .st-key-by-hand-{band} input[type=range]").first


def by_sliders(page):
    """What the sliders stand at."""
    read = "e => Number(e.value ?? e.getAttribute('aria-valuenow'))"
    return [slider(page, band).evaluate(read) for band in range(8)]


OVERTAKEN = """([name, after]) => {  // a click, and a message that ends its run: the step of a field beside it
  const button = [...document.querySelectorAll('[data-testid=stMain] button')].find(e => e.innerText.endsWith(name));
  const step = [...document.querySelectorAll('[data-testid=stMain] [data-testid=stNumberInputStepUp]')]
    .find(e => !e.disabled);
  button.click();
  setTimeout(() => (step || button).click(), after);
}"""


@pytest.mark.parametrize(
    ("path", "button", "job", "after"),  # milliseconds between the click and what ends its run; within its rest
    [
        ("pressure", "Diagnose", "Diagnose demo", 500),
        ("tune", "Start the search", "Tune demo", 1500),
        ("evaluate", "Evaluate", "Evaluate demo", 500),
    ],
)
def test_a_click_that_is_overtaken_counts(page, dashboard, path, button, job, after):
    """Its run is ended by the next message before it comes to the button."""
    small = 'search={"steps":1}&evaluation={"lengths":[128],"windows":2}&length=300'  # and one window more by the step
    page.goto(f"{dashboard.address}/{path}?model=demo&{small}")
    page.get_by_role("button", name=button, exact=True).wait_for(timeout=SHORT)
    settle(page)
    if page.get_by_text("Options", exact=True).count():
        page.get_by_text("Options", exact=True).first.click()
        page.wait_for_timeout(500)
    ran = len(dashboard.jobs())
    with dashboard.resting(REST):
        page.evaluate(OVERTAKEN, [button, after])
        soon(page, lambda: job in dashboard.jobs()[ran:], True)
    soon(page, lambda: page.get_by_role("button", name="Cancel").count(), 0)


DOUBLE = """([name, after]) => {
  const button = [...document.querySelectorAll('[data-testid=stMain] button')].find(e => e.innerText.endsWith(name));
  button.click();
  setTimeout(() => button.click(), after);
}"""


@pytest.mark.parametrize("after", [20, 150, 600])
def test_a_double_click_writes_one_checkpoint_and_says_so(page, dashboard, after):
    folder = dashboard.home / f"written {after}"
    go(page, "Export")
    typed(page, "New folder", folder)
    page.keyboard.press("Tab")
    settle(page)
    ran = len(dashboard.jobs())
    page.evaluate(DOUBLE, ["Write the checkpoint", after])
    page.get_by_test_id("stAlert").get_by_text(f"Written to {folder}").wait_for(timeout=SHORT)
    page.wait_for_timeout(after + 1000)
    settle(page)
    assert page.get_by_test_id("stAlert").get_by_text("already exists").count() == 0
    assert page.get_by_test_id("stAlert").get_by_text(f"Written to {folder}").count() == 1
    assert dashboard.jobs()[ran:] == ["Export demo"]
    assert (folder / "config.json").is_file()


def test_a_page_asked_for_behind_the_last_line_of_the_queues_run_is_drawn_in_its_place(page, dashboard):
    """The thread that drew the queue into the sidebar then draws the page; it must not draw that there too."""
    go(page, "Learn")
    with dashboard.lingering(IDLE):  # the queue's next run lingers until its next one
        page.wait_for_timeout(1000 * IDLE + 500)
        for name in ("Export", "Runs"):
            page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
            page.get_by_role("heading", level=1, name=walk.PAGES[name]).wait_for(timeout=SHORT)
            assert page.get_by_test_id("stMain").get_by_role("heading", level=1).count() == 1
            assert page.get_by_test_id("stSidebar").get_by_role("heading", level=1).count() == 0
            page.wait_for_timeout(1000 * IDLE + 500)
    settle(page)


def test_typing_is_left_alone_while_an_idle_page_looks_for_changes(page):
    """Two looks of the sidebar long: the half-typed text, its focus and an open menu stay."""
    go(page, "Evaluate")
    page.get_by_text("my own text").click()
    settle(page)
    typed(page, "Text to continue", "The committee met")
    page.wait_for_timeout(2 * 1000 * IDLE + 1000)
    page.keyboard.type(" on Tuesday")
    assert field(page, "Text to continue").input_value() == "The committee met on Tuesday"
    page.keyboard.press("Tab")
    settle(page)
    go(page, "Start", heading="demo")
    page.get_by_role("combobox", name="Quantizer").click()
    page.wait_for_timeout(2 * 1000 * IDLE + 1000)
    assert page.get_by_role("option").count() > 3
