"""What a person typed or clicked is not lost: by a page change, a reload, a redraw under the mouse, or Back."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import walk
from walk import LONG, SHORT, go, settle, soon

pytestmark = [pytest.mark.browser, pytest.mark.slow]
OWN = "The committee met on Tuesday, and what it decided was read out on Wednesday."
PRESS = 400  # milliseconds a slow hand holds the button: longer than a page takes to begin to redraw


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


def pressed(page, target):
    """A slow click, with the mouse alone: what was typed is sent when the button goes down."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(PRESS)
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
    pressed(page, page.get_by_role("link", name="Next: pressure"))
    page.get_by_role("heading", level=1, name="Pressure").wait_for(timeout=SHORT)
    walk.strip(page).get_by_text("512 tokens").wait_for(timeout=SHORT)
    assert asked(page, "length") == 512


def test_a_click_right_after_typing_counts(page, dashboard):
    go(page, "Pressure")
    typed(page, "Window L, tokens", 640)
    pressed(page, page.get_by_role("button", name="Diagnose", exact=True))
    page.locator(".st-key-band-kernel").wait_for(timeout=LONG)
    assert dashboard.jobs()[-1] == "Diagnose demo"
    go(page, "Tune")
    page.get_by_text("Options", exact=True).click()
    typed(page, "Gradient steps", 3)
    pressed(page, page.get_by_role("button", name="Start the search"))
    soon(page, lambda: dashboard.jobs()[-1], "Tune demo")
    soon(page, lambda: asked(page, "search")["steps"], 3)
    page.get_by_text("The search in numbers").wait_for(timeout=LONG)
    go(page, "Evaluate")
    typed(page, "Windows of text", 3)
    pressed(page, page.get_by_role("button", name="Evaluate", exact=True))
    page.get_by_text("How well is unseen text predicted").wait_for(timeout=LONG)
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
    soon(page, lambda: (asked(page, "league") or {}).get("windows"), 5)
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
