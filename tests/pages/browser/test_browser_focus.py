"""By keyboard alone: where the focus is after what was pressed has gone, and that the next Tab goes on from there."""

import shutil

import pytest

from pages.state.lessons import LESSONS
from tests.pages.browser import walk
from tests.pages.browser.walk import LONG, PAGES, ROOT, settle, soon

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FOCUS = """() => {
  const e = document.activeElement;
  return [e.tagName, e === document.body ? '' : e.innerText.split('\\n').at(-1)];
}"""
INSIDE = "() => !!document.activeElement.closest('[data-testid=stMain]')"
LINKED = {"Noise": "float32", "Tune": "float64", "Evaluate": "float32", "Runs": "float64", "Retrieval": "float32"}


@pytest.fixture
def page(dashboard, visit):
    page = visit()
    page.goto(dashboard.address)
    walk.load_demo(page)
    settle(page)
    return page


def entered(page, button):
    """Press Enter on a button."""
    button.focus()
    page.keyboard.press("Enter")


def goes_on(page, tag, words):
    """The focus comes to rest on a heading of these words, and the next Tab stays on the page behind it."""
    soon(page, lambda: page.evaluate(FOCUS), [tag, words])
    page.wait_for_timeout(1500)
    settle(page)
    assert page.evaluate(FOCUS) == [tag, words]
    page.keyboard.press("Tab")
    assert page.evaluate(INSIDE)


@pytest.mark.parametrize("name", LINKED)
def test_after_the_load_that_a_link_asks_for_it_is_on_the_title(dashboard, visit, name):
    page = visit()
    page.goto(f"{dashboard.address}/{name.lower()}?model=demo&dtype={LINKED[name]}")
    button = page.get_by_role("button", name="Load demo")
    button.wait_for(timeout=LONG)
    settle(page)
    entered(page, button)
    page.get_by_text("Rescaling can act here").first.wait_for(timeout=LONG)
    goes_on(page, "H1", PAGES[name])


def test_after_a_load_out_of_a_popover_it_is_on_the_title(page, dashboard):
    folder = dashboard.home / "another"
    shutil.copytree(ROOT / "assets" / "demo", folder)
    entered(page, page.get_by_role("button", name="Another model"))
    page.get_by_text("Folder", exact=True).click()
    field = page.get_by_label("Folder with config.json and safetensors")
    field.fill(str(folder))
    field.press("Tab")
    settle(page)
    entered(page, page.get_by_role("button", name="Load", exact=True))
    page.get_by_role("heading", level=1, name="another").wait_for(timeout=LONG)
    goes_on(page, "H1", "another")


def test_a_load_that_fails_at_once_says_so_in_its_popover_and_leaves_it_on_the_button(page, dashboard):
    entered(page, page.get_by_role("button", name="Another model"))
    page.get_by_text("Folder", exact=True).click()
    field = page.get_by_label("Folder with config.json and safetensors")
    field.fill(str(dashboard.home / "nowhere"))
    field.press("Tab")
    settle(page)
    entered(page, page.get_by_role("button", name="Load", exact=True))
    said = page.get_by_test_id("stAlert").filter(has_text="no such model")
    said.first.wait_for(timeout=LONG)
    settle(page)
    inside = page.get_by_test_id("stPopoverBody").locator(said)
    if inside.count() == 0:  # a machine on which the load takes its time: the popover has closed meanwhile
        assert said.is_visible()
        goes_on(page, "H1", "demo")
        return
    box = inside.bounding_box()
    words = "([x, y]) => document.elementFromPoint(x, y).closest('[data-testid=stAlert]')?.innerText ?? ''"
    assert "nowhere" in page.evaluate(words, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    if page.evaluate(FOCUS) != ["BUTTON", "Load"]:  # nor while the load took its time: the button was away meanwhile
        goes_on(page, "H1", "demo")


def test_while_a_search_runs_and_when_it_has_ended_it_is_on_the_title(page, dashboard):
    page.goto(f'{dashboard.address}/tune?model=demo&search={{"steps":20}}')
    start = page.get_by_role("button", name="Start the search")
    start.wait_for(timeout=LONG)
    settle(page)
    with dashboard.holding(0):
        entered(page, start)
        page.get_by_role("button", name="Cancel").first.wait_for(timeout=LONG)
        goes_on(page, "H1", "Tune")
    page.get_by_text("The search, candidate by candidate and in numbers").wait_for(timeout=LONG)
    assert page.evaluate(INSIDE)


def test_the_next_step_of_learn_is_read_from_its_heading(dashboard, visit):
    page = visit()
    page.goto(f"{dashboard.address}/learn")
    words, after, *_ = (lesson.question for lesson in LESSONS.values())
    page.get_by_role("heading", level=2).filter(has_text=words).wait_for(timeout=LONG)
    settle(page)
    onward = page.get_by_role("button", name=after).last
    onward.scroll_into_view_if_needed()
    onward.click()
    heading = page.get_by_role("heading", level=2).filter(has_text=after)
    heading.wait_for(timeout=LONG)
    top = "h => { const at = h.getBoundingClientRect(); return at.top >= 0 && at.top < innerHeight / 3; }"
    soon(page, lambda: heading.evaluate(top), True)
    settle(page)
    assert heading.evaluate(top)
    assert page.evaluate(FOCUS)[0] == "H2"


def test_below_a_heading_it_goes_to_that_heading(page):
    walk.go(page, "Evaluate")
    entered(page, page.get_by_role("button", name="Continue the prompt"))
    page.get_by_role("button", name="Cancel").first.wait_for(timeout=LONG)
    goes_on(page, "H2", "The same prompt, continued by each model")
    page.get_by_role("button", name="Cancel").first.wait_for(timeout=LONG, state="detached")


def test_what_a_person_left_alone_is_not_put_back(page):
    button = page.get_by_role("button", name="Another model")
    button.focus()
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(1000)
    assert page.evaluate(FOCUS) == ["BODY", ""]
    button.focus()
    menu = page.get_by_test_id("stSidebar").bounding_box()
    page.mouse.click(menu["x"] + 20, menu["height"] - 10)
    button.evaluate("e => { e.disabled = true; }")
    page.wait_for_timeout(1000)
    assert page.evaluate(FOCUS)[0] not in ("H1", "BUTTON")
