"""`kill -9` of the dashboard's server in the middle of a job that a person started in Chromium, and its next start.

Half of the kills come by the clock, half at the moment at which a half-written file is seen in the folders that the
server writes to.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from benchmarks.endurance.tally import Tally
from benchmarks.endurance.whole_files import broken_files, finished, leftovers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from tests.pages.browser.conftest import Dashboard

JOBS = {  # job: the page, its button, the file that it ends with
    "diagnosis": ("pressure", "Diagnose", "diagnosis.json"),
    "search": ("tune", "Start the search", "search.json"),
    "evaluation": ("evaluate", "Evaluate", "evaluation_untuned.json"),
    "export": ("export", "Write the checkpoint", "qroar.json"),
}
LENGTH, BANDS = 256, 4
LOOK, PATIENCE = 0.002, 240.0  # seconds
LEAST_FACTOR = 2.0  # of the interpolation; every kill has its own, so that nothing of an earlier one is found


class KillingServer:
    """Kills of one dashboard, with one tab at a time."""

    def __init__(self, home: Path, rng: random.Random, browser: Browser) -> None:
        from tests.pages.browser.conftest import Dashboard

        home.mkdir(parents=True)
        self.up: Dashboard = Dashboard(home)
        self.rng, self.browser = rng, browser
        self.exports = home / "exports"
        self.seconds: dict[str, float] = {}  # of a job that nothing killed
        self.rows = {job: Tally(f"server: killed in a job, {job}") for job in JOBS}
        self.resumed = Tally("server: started again, and the job to its end")
        self.turns = 0

    def tallies(self) -> list[Tally]:
        """All rows."""
        return [*self.rows.values(), self.resumed]

    def kill(self, count: int, until: float) -> int:
        """So many kills, or until time.monotonic() is `until`; returns how many there were."""
        done, jobs = 0, list(JOBS)
        self.rng.shuffle(jobs)
        while done < count and time.monotonic() < until:
            job = jobs[done % len(jobs)]
            if job not in self.seconds:
                self._whole(job)
            self._killed(job)
            done += 1
        return done

    def close(self) -> None:
        """End the server."""
        self.up.stop(signal.SIGKILL)

    def _whole(self, job: str) -> None:
        """One job that nothing kills: how long there is to kill it."""
        self.turns += 1
        page = self._opened(job)
        began = time.monotonic()
        self._press(page, job)
        assert self._until(lambda: self._ended(job)), f"{job} did not end: {self.up.log.read_text()[-2000:]}"
        self.seconds[job] = time.monotonic() - began
        page.context.close()

    def _killed(self, job: str) -> None:
        self.turns += 1
        row = self.rows[job]
        page = self._opened(job)
        before = finished(self.up.runs)
        self._press(page, job)
        self._wait(self.rng.uniform(0, self.seconds[job]), by_file=self.rng.random() < 0.5)
        self.up.stop(signal.SIGKILL)
        page.context.close()
        row.count += 1
        row.violations += self._broken()
        kept = before | finished(self.up.runs)
        self.up.start()
        page = self._opened(job)
        self.resumed.count += 1
        if not self._ended(job):
            self._press(page, job)
        if not self._until(lambda: self._ended(job)):
            tail = self.up.log.read_text()[-300:]
            self.resumed.violations.append(f"{job} {self.turns} did not end within {PATIENCE:.0f} s; log: {tail}")
        page.context.close()
        now = finished(self.up.runs)
        self.resumed.violations += [
            f"{path}: a finished stage was made again" for path in kept if now.get(path) != kept[path]
        ]
        self.resumed.violations += [*self._broken(), *leftovers(self.up.runs), *leftovers(self.exports)]

    def _broken(self) -> list[str]:
        return [*broken_files(self.up.runs), *broken_files(self.exports)]

    def _opened(self, job: str) -> Page:
        """A tab on the job's page under this turn's setting, with the model in memory."""
        page = self.browser.new_context().new_page()
        asked = f"model=demo&length={LENGTH}&bands={_json({'count': BANDS})}&rope={_json(self._rope)}"
        page.goto(f"{self.up.address}/{JOBS[job][0]}?{asked}")
        button, load = self._button(page, job), page.get_by_role("button", name="Load demo")
        button.or_(load).first.wait_for(timeout=PATIENCE * 1000)
        if load.count():
            load.first.click()
        button.wait_for(timeout=PATIENCE * 1000)
        return page

    def _button(self, page: Page, job: str) -> Locator:
        return page.get_by_role("button", name=JOBS[job][1], exact=job != "export")

    @property
    def _rope(self) -> dict[str, Any]:
        return {"method": "yarn", "factor": LEAST_FACTOR + self.turns / 16}

    def _press(self, page: Page, job: str) -> None:
        if job == "export":
            page.get_by_label("New folder").fill(str(self._export))
        self._button(page, job).click(timeout=PATIENCE * 1000)

    @property
    def _export(self) -> Path:
        return self.exports / f"checkpoint-{self.turns}"

    def _ended(self, job: str) -> bool:
        name = JOBS[job][2]
        if job == "export":
            return (self._export / name).is_file()
        return any((run / name).is_file() for run in runs_with(self.up.runs, self._rope["factor"]))

    def _until(self, true: Callable[[], bool]) -> bool:
        end = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def _wait(self, seconds: float, by_file: bool) -> None:
        """Until the moment of the kill; by file: until a half-written one is there, but not for ever."""
        end = time.monotonic() + (max(self.seconds.values()) if by_file else seconds)
        while time.monotonic() < end:
            if by_file and any(leftovers(folder) for folder in (self.up.runs, self.exports)):
                return
            time.sleep(LOOK)


def runs_with(runs: Path, factor: float) -> list[Path]:
    """Run folders whose interpolation has this factor."""
    found = []
    for manifest in runs.glob("*/manifest.json"):
        try:
            specs = json.loads(manifest.read_text())["specs"]
        except (OSError, ValueError):
            continue
        if specs["rope"]["factor"] == factor:
            found.append(manifest.parent)
    return found


def _json(value: Any) -> str:
    return quote(json.dumps(value))
