"""Foreign strings in a real browser: no link, picture, frame, formula or request comes of them; and who is answered."""

import shutil
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync import client

from tests.helpers import hostile
from tests.pages.browser import walk
from tests.pages.browser.walk import LONG, SHORT

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TOUR = {  # page of the menu: the buttons to click there
    "Pressure": ("Diagnose",),
    "Bands": (),
    "Tails": (),
    "Outliers": (),
    "Noise": (),
    "Tune": ("Start the search",),
    "Evaluate": ("Evaluate", "Continue the prompt"),
    "Remedies": ("Run the comparison",),
    "Sweep": (),
    "Trade-off": (),
    "Retrieval": ("Test retrieval",),
    "Evidence": ("Run the controls", "Test the claims", "Round each band alone", "Choose the interpolation"),
    "Export": (),
    "Runs": (),
    "Overview": (),
    "Learn": (),
    "Start": (),
}
FOREIGN = """learn => [...document.querySelectorAll('a, img, iframe, embed, object, audio, video, em, del, .katex')]
  .filter(e => !(learn && e.closest('.katex')))
  .filter(e => !(e.matches('a') && new URL(e.getAttribute('href') ?? e.getAttribute('xlink:href') ?? 'x:',
    location.href).origin === location.origin))
  .filter(e => !(e.matches('img') && e.src.startsWith(location.origin)))
  .map(e => e.outerHTML.slice(0, 200))"""
FORMATTED = "img, .katex, iframe, em, del, a:not([href^='#'])"
MARK = hostile.STRINGS[0]  # a picture's address


class Watched:
    """A tab, everything it asked for, and what the browser kept it from."""

    def __init__(self, page):
        self.page, self.asked, self.kept_from = page, [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url.replace("ws://", "http://")))
        page.on("console", lambda said: self.kept_from.append(said.text) if "Content Security" in said.text else None)
        page.on("dialog", lambda dialog: self.kept_from.append("dialog"))

    def is_at_home(self, dashboard):
        """It asked nobody but the dashboard, and had no need to be kept from more."""
        away = [url for url in self.asked if not url.startswith((f"{dashboard.address}/", "data:", "blob:"))]
        assert away == []
        assert self.kept_from == []
        assert len(self.asked) > 10
        assert self.page.evaluate(FOREIGN, "/learn" in self.page.url) == []


def test_every_string_is_shown_letter_by_letter_wherever_markdown_is_taken(literals, visit):
    page = visit()
    tab = Watched(page)
    page.goto(literals.address)
    page.get_by_text("the end of it").wait_for(timeout=LONG)
    walk.settle(page)
    for at, text in enumerate([*hostile.STRINGS, hostile.ALL]):
        for place in (
            "body",
            "bold",
            "write",
            "item",
            "heading",
            "caption",
            "error",
            "subheader",
            "badge",
            "title",
            "expander",
            "metric",
            "progress",
            "tabs",
            "table",
            "button",
            "radio",
            "code",
        ):
            box = page.locator(f".st-key-{place}-{at}")
            walk.soon(page, lambda box=box, text=text: text in read(box), True)
            assert box.locator(FORMATTED).count() == 0, (place, text)
    tab.is_at_home(literals)


def test_the_box_of_a_fault_offers_no_link_and_no_details(literals, visit):
    page = visit()
    tab = Watched(page)
    page.goto(f"{literals.address}/?fault=1")
    box = page.get_by_test_id("stException")
    box.wait_for(timeout=LONG)
    walk.settle(page)
    assert box.locator("a").count() == 0
    assert "example.org" not in read(box)
    tab.is_at_home(literals)


def read(box):
    """What a person reads in a box: all of it, also what is cut off at its edge."""
    return box.evaluate("e => e.textContent").replace("\u2060", "")


@pytest.mark.parametrize("asked", hostile.STRINGS[:4])
def test_a_hostile_link_shows_its_text(hostile_dashboard, visit, asked):
    page = visit()
    tab = Watched(page)
    for path in ("", "/noise"):
        page.goto(f"{hostile_dashboard.address}{path}?model={quote(asked)}")
        page.get_by_text("This link needs the model").first.wait_for(timeout=SHORT)
        walk.soon(page, lambda: asked[:20] in read(page.get_by_test_id("stMain")), True)
        tab.is_at_home(hostile_dashboard)


def test_a_tour_of_every_page_asks_nobody_else_and_makes_nothing_of_the_strings(hostile_dashboard, visit):
    page = visit(height=2000)
    tab = Watched(page)
    page.goto(hostile_dashboard.address)
    page.get_by_role("button", name="Demo model").click(timeout=SHORT)
    page.get_by_text("Rescaling can act here").first.wait_for(timeout=LONG)
    for name, buttons in TOUR.items():
        go(page, name)
        for label in buttons:
            page.get_by_role("button", name=label, exact=True).click(timeout=SHORT)
            walk.settle(page)
            page.wait_for_timeout(1200)  # three looks at a job
            walk.settle(page)
        walk.unfold(page)
        if name not in ("Learn", "Start"):
            assert MARK in read(page.get_by_test_id("stMain")), name
        page.mouse.wheel(0, 4000)
        tab.is_at_home(hostile_dashboard)
        if buttons:
            assert page.locator(".js-plotly-plot").count() > 0, name
    favicon = page.locator("link[rel~=icon]").last.get_attribute("href")
    assert urlsplit(favicon).netloc in ("", urlsplit(hostile_dashboard.address).netloc)
    assert tab.page.title() == "Q-ROAR"
    runs_called_so(page, tab, hostile_dashboard)


def runs_called_so(page, tab, dashboard):
    """Two runs whose folders have hostile names, in the menus and in the figures that compare them, hover included."""
    run = next(path for path in dashboard.runs.iterdir() if (path / "evaluation.json").is_file())
    for name in (hostile.NAME, f"{hostile.NAME} 2"):
        shutil.copytree(run, dashboard.home / name)
        go(page, "Runs")
        field = page.get_by_label("Run folder", exact=True)
        if not field.is_visible():  # a page that was open already keeps the box open
            page.get_by_text("Open a run folder from elsewhere").click()
        field.fill(str(dashboard.home / name))
        page.get_by_role("button", name="Open folder").click()
        page.wait_for_timeout(800)
        walk.settle(page)
        tab.is_at_home(dashboard)
    menu = page.get_by_role("combobox", name="Compare runs")
    for _ in range(2):
        menu.click()
        page.get_by_role("option").filter(has_text=hostile.NAME[:20]).first.click()
        walk.settle(page)
    figure = walk.chart(page, "run-gains")
    figure.locator(".main-svg").first.wait_for(timeout=SHORT)
    assert hostile.NAME in read(figure)  # a row's label
    where = walk.drawn(page, "run-gains")[0]
    walk.click_at(page, "run-gains", where["x"][0], 0)
    walk.soon(page, lambda: hostile.NAME[:20] in read(figure.locator(".hoverlayer")), True)
    tab.is_at_home(dashboard)


def go(page, name):
    """Change page by the menu, whatever its title is."""
    page.get_by_test_id("stSidebarNavLink").filter(has_text=name).first.click()
    path = {"Start": ""}.get(name, name.lower().replace("-", ""))
    page.wait_for_function("path => location.pathname === '/' + path", arg=path, timeout=SHORT)
    walk.settle(page)
    page.wait_for_timeout(200)
    walk.settle(page)


def test_every_answer_says_what_a_browser_may_do(hostile_dashboard):
    for path in ("/", "/noise", "/_stcore/health", "/favicon.png"):
        with urllib.request.urlopen(f"{hostile_dashboard.address}{path}") as answer:
            said = {name.lower(): value for name, value in answer.headers.items()}
        rules = dict(rule.split(" ", 1) for rule in said["content-security-policy"].split("; "))
        assert rules["default-src"] == "'self'"
        assert rules["frame-ancestors"] == rules["object-src"] == rules["frame-src"] == "'none'"
        assert "unsafe" not in rules["script-src"]
        assert "*" not in said["content-security-policy"]
        assert (said["x-frame-options"], said["x-content-type-options"]) == ("DENY", "nosniff")


def test_no_page_can_frame_the_dashboard(hostile_dashboard, literals, visit):
    page = visit()
    page.goto(f"{literals.address}/_stcore/health")
    page.set_content(f"<iframe id=f src='{hostile_dashboard.address}/'></iframe>")
    page.wait_for_timeout(3000)
    (framed,) = page.main_frame.child_frames
    assert not framed.url.startswith(hostile_dashboard.address)


@pytest.mark.parametrize(
    ("origin", "answered"),
    [
        ("http://127.0.0.1:{port}", True),
        (None, True),
        ("http://127.0.0.1:1", False),
        ("http://localhost:1", False),
        ("http://localhost:{port}", False),
        ("https://example.org", False),
        ("null", False),
    ],
)
def test_a_websocket_of_another_origin_is_refused(hostile_dashboard, origin, answered):
    port = urlsplit(hostile_dashboard.address).port
    origin = origin and origin.format(port=port)
    assert connects(f"ws://127.0.0.1:{port}/_stcore/stream", origin) == answered
    asked = urllib.request.Request(f"{hostile_dashboard.address}/_stcore/health")
    if origin:
        asked.add_header("Origin", origin)
    assert status(asked) == (200 if answered else 403)


@pytest.mark.parametrize(("name", "answered"), [("localhost", True), ("127.0.0.1", True), ("example.org", False)])
def test_a_name_that_is_pointed_at_this_machine_is_refused(hostile_dashboard, name, answered):
    port = urlsplit(hostile_dashboard.address).port
    asked = urllib.request.Request(f"{hostile_dashboard.address}/", headers={"Host": f"{name}:{port}"})
    assert status(asked) == (200 if answered else 403)


def status(asked):
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def connects(address, origin):
    try:
        with client.connect(address, origin=origin, subprotocols=["streamlit"]):
            return True
    except InvalidStatus as refused:
        return False if refused.response.status_code == 403 else refused.response.status_code


def test_a_page_of_another_port_cannot_reach_the_dashboard(hostile_dashboard, literals, visit):
    """The browser's own view: a script of another dashboard on this machine."""
    page = visit()
    page.goto(f"{literals.address}/_stcore/health")
    address = urlsplit(hostile_dashboard.address)
    opened = page.evaluate(
        """async host => {
          const socket = await new Promise(done => { try {
            const s = new WebSocket(`ws://${host}/_stcore/stream`, ['streamlit']);
            s.onopen = () => done('open'); s.onerror = () => done('refused'); } catch (e) { done('refused'); } });
          const read = await fetch(`http://${host}/_stcore/health`).then(() => 'read', () => 'refused');
          return [socket, read]; }""",
        address.netloc,
    )
    assert opened == ["refused", "refused"]
