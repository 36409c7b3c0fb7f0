"""One browser session with a setting of its own, which does at random what people do.

Everything of the setting that the address holds is another number for every visitor, so that a trace of one in another
shows: the bands, the steps of the search, and the factor of the interpolation, which changes now and then within the
visitor's own unit: all stages depend on it, so that there is always something to start.
"""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

try:
    from playwright.sync_api import Error
except ImportError:  # the other parts do without

    class Error(Exception):  # type: ignore[no-redef]
        """Never raised."""


if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LENGTH, LEAST_BANDS, LEAST_FACTOR = 256, 2, 2.0
LEAST_STEPS, CHANGES = 40, 50  # a manifest keeps six digits of a factor
PAGES = ("overview", "bands", "pressure", "tails", "outliers", "noise", "tune", "evaluate", "runs", "learn")
STARTS = {
    "diagnosis": ("pressure", "Diagnose"),
    "search": ("tune", "Start the search"),
    "evaluation": ("evaluate", "Evaluate"),
}
ACTIONS = {"look": 5, "start": 5, "cancel": 3, "apply": 1, "undo": 1, "change": 2}
DRAWN, CLICKED, LOADED = 60_000, 20_000, 240_000  # milliseconds
OWN = "started by you"


@dataclass(slots=True)
class Visitor:
    """A tab in a context of its own, and what was asked there.

    Args:
        number: from 0; decides the setting.
        asked: (factor, job) of what was started and not cancelled.
        lines: what was seen that must not be, to look at.
    """

    number: int
    address: str
    page: Page
    rng: random.Random
    asked: set[tuple[float, str]] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    started: int = 0
    cancelled: int = 0
    looked: int = 0
    given_up: int = 0  # actions that the browser could not carry out, as a button went while it was aimed at
    change: int = 0

    @classmethod
    def enter(cls, number: int, address: str, browser: Browser, seed: int) -> Visitor:
        """A new session on the page of a search."""
        page = browser.new_context().new_page()
        found = cls(number, address, page, random.Random(f"{seed} {number}"))
        page.on("pageerror", lambda error: found._fault(str(error)))
        found.open("tune")
        return found

    @property
    def bands(self) -> int:
        """How many bands this visitor has, and nobody else."""
        return LEAST_BANDS + self.number

    @property
    def factor(self) -> float:
        """The interpolation factor at present, in a unit that nobody else has."""
        return LEAST_FACTOR + self.number + self.change / CHANGES

    @property
    def steps(self) -> int:
        """Steps of the search that nobody else has."""
        return LEAST_STEPS + self.number

    def open(self, path: str) -> None:
        """Go to a page by its address, and load the model where it is not in memory."""
        asked = {
            "bands": {"count": self.bands},
            "rope": {"method": "yarn", "factor": self.factor},
            "search": {"steps": self.steps},
        }
        words = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in asked.items())
        self.page.goto(f"{self.address}/{path}?model=demo&length={LENGTH}&{words}")
        load, loaded = self.page.get_by_role("button", name="Load demo"), self.page.locator(".st-key-status_bar")
        load.or_(loaded).first.wait_for(timeout=LOADED)
        if load.count():  # of several who come at once the first has it loaded
            with suppress(Error):
                load.first.click(timeout=CLICKED)
        loaded.first.wait_for(timeout=LOADED)

    def act(self) -> None:
        """One random action, then a look at what the page shows."""
        try:
            getattr(self, f"_{self.rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]}")()
        except Error:
            self.given_up += 1
        with suppress(Error):
            self.look_around()

    def look_around(self) -> None:
        """Is all that this page shows of this visitor's own setting? Nothing may have failed with a trace."""
        chosen, end = (self.bands, self.factor, self.steps), time.monotonic() + DRAWN / 1000
        while (seen := setting_of(self.page.url)) != chosen and None in seen and time.monotonic() < end:
            self.page.wait_for_timeout(250)  # a page change empties the address, and the page's run fills it
        self.looked += 1
        if seen != chosen:
            self._fault(f"the address says {seen}, this visitor chose {chosen}")
        for words in self._queue():
            if OWN in words and f"{self.bands} bands" not in words:
                self._fault(f"a job of another setting is said to be this visitor's: {words}")
        if self.page.get_by_test_id("stException").count():
            self._fault(
                f"an exception on {self.page.url}: {self.page.get_by_test_id('stException').first.inner_text()}"
            )

    def _fault(self, line: str) -> None:
        if line != "undefined":  # plotly breaks its own promise when a playing animation is paused
            self.lines.append(f"visitor {self.number}: {line[:400]}")

    def _queue(self) -> list[str]:
        """Text of every job in the sidebar, in order, all at one moment."""
        read = "all => all.map(e => e.innerText.split('\\n').join(' '))"
        return list(self.page.locator("[class*='st-key-queued-']").evaluate_all(read))

    def _go(self, path: str) -> None:
        """By the sidebar, as a person does: the session goes on."""
        self.page.locator(f"[data-testid=stSidebarNavLink][href*='/{path}']").first.click(timeout=CLICKED)
        self.page.wait_for_url(f"**/{path}?**", timeout=DRAWN)
        self.page.wait_for_timeout(500)

    def _look(self) -> None:
        self._go(self.rng.choice(PAGES))

    def _start(self) -> None:
        job = self.rng.choice(list(STARTS))
        path, name = STARTS[job]
        self._go(path)
        button = self.page.get_by_role("button", name=name, exact=True)
        self.page.locator(".st-key-status_bar").wait_for(timeout=DRAWN)
        self.page.wait_for_timeout(1000)
        if not button.count() or not button.first.is_enabled():
            return  # it runs, or its result is there
        before = len([words for words in self._queue() if OWN in words])
        button.click(timeout=CLICKED)
        for _ in range(20):
            if len([words for words in self._queue() if OWN in words]) > before:
                self.asked.add((self.factor, job))
                self.started += 1
                return
            self.page.wait_for_timeout(250)

    def _cancel(self) -> None:
        """One of this visitor's own jobs. What needs it fails with it: nothing asked by now is waited for."""
        mine = self.page.locator("[class*='st-key-queued-']").filter(has_text=OWN)
        if count := mine.count():
            mine.nth(self.rng.randrange(count)).get_by_role("button", name="Cancel").click(timeout=CLICKED)
            self.cancelled += 1
            self.asked.clear()

    def _apply(self) -> None:
        self._press("Apply")

    def _undo(self) -> None:
        self._press("Undo")

    def _press(self, name: str) -> None:
        self._go("tune")
        button = self.page.get_by_role("button", name=name, exact=True)
        if button.count() and button.first.is_enabled():
            button.first.click(timeout=CLICKED)

    def _change(self) -> None:
        """Another factor, and with it nothing that was measured before; the reload begins a new session."""
        self.change = (self.change + 1) % CHANGES
        self.open("tune")


def setting_of(url: str) -> tuple[Any, Any, Any]:
    """Bands, factor and steps of an address, None for each that it does not have."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    return _number(query, "bands", "count"), _number(query, "rope", "factor"), _number(query, "search", "steps")


def _number(query: dict[str, str], name: str, key: str) -> Any:
    try:
        return json.loads(query[name])[key]
    except (KeyError, ValueError, TypeError):
        return None
