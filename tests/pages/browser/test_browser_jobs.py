"""Jobs as people meet them who share a dashboard: a queue on every page, and a server that starts and ends cleanly."""

import re
import shutil
import signal

import pytest

from tests.pages.browser import walk
from tests.pages.browser.walk import LONG, PAGES, SHORT, go, settle, soon

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MIDDLE = 20  # candidates after which a search that is held stands still
COLD = {
    "": "Where does your long-context model lose, and what can be repaired?",
    "tune": "Tune",
    "learn": "The mechanism by hand",
}
LISTED = """
window.listed = new Set();
new MutationObserver(() => {
  for (const link of document.querySelectorAll('[data-testid=stSidebarNavLink]'))
    window.listed.add(link.innerText.trim().split('\\n').pop());
}).observe(document, {subtree: true, childList: true, characterData: true});
"""
LIVE = re.compile(r"Best of \d+ candidates so far")
ENDS = 15  # seconds within which a server with a running job ends


def queue(page):
    """What the sidebar says of every job, in order."""
    read = "all => all.map(e => e.innerText.split('\\n')[0])"  # at one moment: the queue redraws by itself
    return page.locator("[class*='st-key-queued-']").evaluate_all(read)


def opened(dashboard, visit, steps):
    """A visitor with the demo model whose search has so many steps: another number, another search."""
    page = visit()
    page.goto(f'{dashboard.address}/?search={{"steps":{steps}}}')
    walk.load_demo(page)
    return page


def test_three_visitors_at_once_on_a_new_server(dashboard, visit):
    """Imports of the first visit run in as many threads as there are visitors."""
    dashboard.stop()
    dashboard.start()
    pages = [visit() for _ in COLD]
    for page, path in zip(pages, COLD, strict=True):
        page.add_init_script(LISTED)
        page.goto(f"{dashboard.address}/{path}", wait_until="commit")
    for page, heading in zip(pages, COLD.values(), strict=True):
        page.get_by_role("heading", level=1, name=heading).wait_for(timeout=LONG)
        assert page.get_by_test_id("stException").count() == 0
        listed = page.evaluate("() => [...window.listed]")
        assert set(listed) == set(PAGES)  # never the files of pages/ by their names
    assert "Error" not in dashboard.log.read_text()


def test_every_page_has_the_queue_and_cancels_a_job_whose_setting_was_changed(dashboard, visit, shots):
    page = opened(dashboard, visit, 300)
    other = visit()  # without a model
    with dashboard.holding(MIDDLE):
        go(page, "Tune")
        walk.press(page, "Start the search")
        page.get_by_text(LIVE).wait_for(timeout=LONG)
        go(page, "Start")
        page.get_by_label("Frequency bands", exact=True).first.fill("4")
        page.get_by_label("Frequency bands", exact=True).first.press("Tab")
        soon(page, lambda: "bands=" in page.url, True)
        go(page, "Pressure")
        page.get_by_role("button", name="Diagnose", exact=True).click()
        soon(page, lambda: len(queue(page)), 2)
        unseen = page.locator(".st-key-unseen [data-testid=stPlotlyChart]")  # loads the script that draws figures
        unseen.wait_for(state="attached", timeout=SHORT)
        assert not unseen.is_visible()
        go(page, "Tune")
        page.get_by_role("button", name="Try scales by hand").click()
        soon(
            page,
            lambda: queue(page)[1:],
            [
                "Diagnose demo: waiting for “Tune demo” to finish",
                "Read q and k of demo: waiting for “Tune demo” and 1 more to finish",
            ],
        )
        assert queue(page)[0].startswith("Tune demo")
        for name in PAGES:
            go(page, name)
            assert len(queue(page)) == 3, name
            walk.shoot(page, shots / f"queue-{name.lower()}.png")
        for path, heading in COLD.items():
            other.goto(f"{dashboard.address}/{path}")
            other.get_by_role("heading", level=1, name=heading).wait_for(timeout=SHORT)
            soon(other, lambda: len(queue(other)), 3)
            walk.shoot(other, shots / f"queue-other-{path or 'start'}.png")
        cancel = page.locator(".st-key-queued-1").get_by_role("button", name="Cancel")
        cancel.click()
        soon(page, lambda: queue(page)[1:], ["Read q and k of demo: waiting for “Tune demo” to finish"])
        page.locator(".st-key-queued-0").get_by_role("button", name="Cancel").click()
        soon(page, lambda: queue(page), [])  # and what waited has run
    assert not list(dashboard.runs.glob("*/search.json"))
    assert len(list(dashboard.runs.glob("*/diagnosis.json"))) == 1  # the search's own; the one that waited never ran
    assert dashboard.jobs()[-1] == "Read q and k of demo"
    soon(other, lambda: queue(other), [])


def test_two_people_apply_while_a_job_runs_and_no_click_is_lost(dashboard, visit):
    page = opened(dashboard, visit, 301)
    go(page, "Tune")
    page.get_by_role("button", name="Try scales by hand").click()
    page.get_by_text("Cached error:").wait_for(timeout=LONG)
    other = visit()
    other.goto(page.url)
    for tab in (page, other):
        walk.choose(tab, "SmoothAttention")
        tab.get_by_text("SmoothAttention. From statistics alone").wait_for(timeout=SHORT)
        settle(tab)
    other.get_by_role("button", name="Copy to by hand").click()
    walk.choose(other, "by hand")
    other.get_by_text("By hand. One scale per band").wait_for(timeout=SHORT)
    settle(other)
    with dashboard.holding(MIDDLE):
        third = visit()
        third.goto(page.url)
        third.get_by_role("button", name="Start the search").wait_for(timeout=SHORT)
        walk.press(third, "Start the search")
        third.get_by_text(LIVE).wait_for(timeout=LONG)
        for tab in (page, other):  # at once: a page that has seen the other's change waiting offers none
            tab.get_by_role("button", name="Apply", exact=True).dispatch_event("click")
        change = "Apply scales to demo's weights: waiting for “Tune demo”"
        soon(third, lambda: queue(third)[1:], [f"{change} to finish", f"{change} and 1 more to finish"])
        third.locator(".st-key-queued-0").get_by_role("button", name="Cancel").click()
        soon(third, lambda: queue(third), [])
    assert dashboard.jobs()[-2:] == ["Apply scales to demo's weights"] * 2
    last = {("by hand", "other scales"): other, ("other scales", "SmoothAttention"): page}  # both clicked at once
    soon(third, lambda: (in_memory(other), in_memory(page)) in last, True)
    winner = last[in_memory(other), in_memory(page)]
    winner.get_by_role("button", name="Undo").click()
    winner.get_by_text("as loaded, no scales in").wait_for(timeout=SHORT)


def in_memory(page):
    """Which scales a page says are applied."""
    return page.get_by_text("The weights in memory: ").inner_text().split(": ")[1].split(" applied")[0]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_server_that_is_stopped_in_a_search_ends_cleanly(dashboard, visit, by):
    page = opened(dashboard, visit, 302 + by)
    go(page, "Tune")
    with dashboard.holding(MIDDLE):  # else a fast machine comes to the end of it first
        walk.press(page, "Start the search")
        page.get_by_text(LIVE).wait_for(timeout=LONG)
        before, files = dashboard.log.read_text(), set(dashboard.runs.glob("*/*"))
        page.goto("about:blank")
        # the server ends, then the process by the same signal; after Ctrl-C click, which runs Streamlit, says 1
        ends = {signal.SIGTERM: (0, -by), signal.SIGINT: (0, 1, -by)}
        assert dashboard.stop(by, within=ENDS) in ends[by]
    assert "terminate called" not in dashboard.log.read_text()[len(before) :]
    assert set(dashboard.runs.glob("*/*")) == files  # no result of half a search, nothing half-written
    dashboard.start()


def test_undo_of_a_page_that_shows_older_scales_leaves_those_of_another_setting(dashboard, visit):
    page = opened(dashboard, visit, 310)
    other = visit()
    other.goto(f'{dashboard.address}/tune?model=demo&rope={{"method":"linear","factor":2.0}}')
    for tab in (page, other):
        if tab is page:
            go(tab, "Tune")
        tab.get_by_role("button", name="Try scales by hand").click(timeout=LONG)
        tab.get_by_text("Cached error:").wait_for(timeout=LONG)
        walk.choose(tab, "SmoothAttention")
        tab.get_by_text("SmoothAttention. From statistics alone").wait_for(timeout=SHORT)
        settle(tab)
        tab.get_by_role("button", name="Apply", exact=True).click()
        tab.get_by_text("SmoothAttention applied").wait_for(timeout=SHORT)
    page.get_by_text("SmoothAttention applied").wait_for(timeout=SHORT)  # as it was drawn before the other's
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("nothing was undone in demo's weights").wait_for(timeout=SHORT)
    page.get_by_text("SmoothAttention of another setup applied").wait_for(timeout=SHORT)
    walk.status_bar(page).get_by_text("scales of another setup applied: linear ×2").wait_for(timeout=SHORT)
    page.get_by_role("button", name="Go to their setup").click()
    page.get_by_text("SmoothAttention applied").wait_for(timeout=SHORT)
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("as loaded, no scales in").wait_for(timeout=SHORT)


def test_an_idle_page_notices_what_another_person_does(dashboard, visit):
    """A job appears by itself, and a change of the runs, the scales or the model is said and drawn when asked."""
    page = opened(dashboard, visit, 320)
    other = visit()
    other.goto(page.url)
    go(other, "Pressure")
    go(page, "Runs")
    shutil.copytree(a_run(dashboard, other), dashboard.runs / "another")
    said = page.get_by_test_id("stSidebar").get_by_text("Changed since this page was drawn: the runs on disk.")
    said.wait_for(timeout=SHORT)
    page.get_by_role("button", name="Draw it again").click()
    soon(page, lambda: said.count(), 0)
    with dashboard.holding(MIDDLE):
        go(other, "Tune")
        walk.press(other, "Start the search")
        soon(page, lambda: [line[:9] for line in queue(page)], ["Tune demo"])  # nobody has touched this tab
        page.locator(".st-key-queued-0").get_by_role("button", name="Cancel").click()
        soon(other, lambda: queue(other), [])
    soon(page, lambda: queue(page), [])
    shutil.rmtree(dashboard.runs / "another")
    said.wait_for(timeout=SHORT)
    page.reload()
    page.get_by_role("heading", level=1, name="Runs").wait_for(timeout=SHORT)
    settle(page)
    assert said.count() == 0


def a_run(dashboard, page):
    """The folder of a run on disk, made by a diagnosis where there is none."""
    if not dashboard.runs.is_dir() or not any(dashboard.runs.iterdir()):
        page.get_by_role("button", name="Diagnose", exact=True).click()
        page.locator(".st-key-unseen-phases").wait_for(timeout=LONG)
    return next(path for path in dashboard.runs.iterdir() if path.is_dir())
