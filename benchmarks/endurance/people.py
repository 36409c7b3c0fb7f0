"""Several people on one server with one model: jobs queued and cancelled at random, each under a setting of its own.

Nobody's setting may show in another's address, queue or run folder. What was asked and not cancelled is on disk at the
end, what once was on disk stays as it was, and a result is what one person alone gets, whatever scales others had in
the weights meanwhile. The server's memory is flat after a warm-up.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.endurance.chromium import chromium
from benchmarks.endurance.resident import flat
from benchmarks.endurance.tally import Tally, report
from benchmarks.endurance.visitor import LEAST_BANDS, LEAST_FACTOR, LEAST_STEPS, Visitor
from benchmarks.endurance.whole_files import broken_files, finished
from qroar_core.diagnostics import run as diagnose
from qroar_core.models import load
from qroar_core.number_of import number_of
from qroar_core.runs.record import read_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.pages.browser.conftest import Dashboard

PART = "endurance.people"
PEOPLE, MINUTES = 8, 20.0
SAMPLE = 2.0  # seconds between looks at the memory
LAST = 600.0  # seconds that what is queued at the end may take
FILES = {"diagnosis": "diagnosis.json", "search": "search.json", "evaluation": "evaluation"}  # how the name begins
OF_THE_CLOCK = "seconds"


def main(minutes: float | None = None, people: int = PEOPLE, seed: int = 0) -> None:
    """One row for each promise."""
    from tests.pages.browser.conftest import Dashboard

    home = Path(tempfile.mkdtemp(prefix="qroar-people-")) / "server"
    home.mkdir()
    minutes = MINUTES if minutes is None else minutes
    up = Dashboard(home)
    try:
        with chromium() as browser:
            rows = lived(up, browser, people, 60 * minutes, seed)
    finally:
        up.stop(within=60)
    print(f"{number_of(people, 'person', 'people')}, {minutes:g} minutes, seed {seed}. Files: {home}\n")
    report(PART, rows)


def lived(up: Dashboard, browser: Browser, people: int, seconds: float, seed: int) -> list[Tally]:
    """Everybody acts in turn for so long; then the queue runs empty, and what is there is looked at."""
    rng = random.Random(seed)
    visitors = [Visitor.enter(number, up.address, browser, seed) for number in range(people)]
    kept: dict[Path, str] = {}
    memory = [(time.monotonic(), up.resident_bytes())]
    stays = Tally("finished results looked at again")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rng.choice(visitors).act()
        kept = _still_there(stays, up.runs, kept)
        if time.monotonic() - memory[-1][0] >= SAMPLE:
            memory.append((time.monotonic(), up.resident_bytes()))
    waited = time.monotonic() + LAST
    while visitors[0].page.locator("[class*='st-key-queued-']").count() and time.monotonic() < waited:
        visitors[0].page.wait_for_timeout(500)
    visitors[0].page.wait_for_timeout(1000)
    _still_there(stays, up.runs, kept)
    print(
        f"{sum(v.started for v in visitors)} jobs started, {sum(v.cancelled for v in visitors)} cancelled, "
        f"{sum(v.given_up for v in visitors)} actions given up by the browser.\n"
    )
    looked = Tally("pages looked at", sum(v.looked for v in visitors), "", [line for v in visitors for line in v.lines])
    log = up.log.read_text()
    if "Traceback" in log:
        looked.violations.append(f"a trace in {up.log}: {log[log.index('Traceback') :][-600:]}")
    return [looked, _on_disk(visitors, up.runs), stays, _settings(up.runs), _alone(up.runs), flat(memory)]


def _still_there(row: Tally, runs: Path, before: dict[Path, str]) -> dict[Path, str]:
    """What was finished must be there as it was; a report may be made anew."""
    now = finished(runs)
    row.count += len(before)
    gone = [path for path in before if now.get(path) != before[path]]
    row.violations += [f"{path}: {'changed' if path in now else 'gone'}" for path in gone]
    return now


def _on_disk(visitors: list[Visitor], runs: Path) -> Tally:
    """Every job that was asked and not cancelled has its file under this visitor's setting."""
    row = Tally("results asked for and not cancelled", sum(len(v.asked) for v in visitors))
    for visitor in visitors:
        for factor, job in sorted(visitor.asked):
            asked = (visitor.bands, factor, visitor.steps)
            mine = [run for run, setting in settings_in(runs).items() if setting == asked]
            if not any(list(run.glob(f"{FILES[job]}*")) for run in mine):
                row.violations.append(f"visitor {visitor.number}, factor {factor}: no {job} in {runs}")
    return row


def _settings(runs: Path) -> Tally:
    """Every run folder is of one visitor's setting, and whole."""
    found = settings_in(runs)
    row = Tally("run folders, each of one visitor's setting", len(found), "", broken_files(runs))
    for run, (bands, factor, steps) in found.items():
        number = bands - LEAST_BANDS
        if (int(factor - LEAST_FACTOR), steps - LEAST_STEPS) != (number, number):
            row.violations.append(f"{run}: {bands} bands, factor {factor}, {steps} steps are of several visitors")
    return row


def _alone(runs: Path) -> Tally:
    """One diagnosis of every visitor, measured again in a process of its own on a model nobody touched."""
    row, loaded, seen = Tally("diagnoses measured again by one person alone"), load.run("demo", device="cpu"), set()
    for run, (bands, _, _) in settings_in(runs).items():
        setting = read_record(run).setting
        if bands in seen or setting is None or not (run / "diagnosis.json").is_file():
            continue
        seen.add(bands)
        row.count += 1
        again = diagnose.run(loaded, setting, setting.texts()["calibration"]).as_written()
        written = json.loads((run / "diagnosis.json").read_text())
        other = differing(written, json.loads(again.to_json()))
        if other:
            row.violations.append(f"{run / 'diagnosis.json'}: other numbers than alone in {', '.join(other)}")
    return row


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same in both, but for the seconds."""
    return [name for name in sorted({*one, *other} - {OF_THE_CLOCK}) if one.get(name) != other.get(name)]


def settings_in(runs: Path) -> dict[Path, tuple[int, float, int]]:
    """Run folder -> bands, factor and steps of its manifest."""
    found = {}
    for manifest in sorted(runs.glob("*/manifest.json")):
        specs = json.loads(manifest.read_text())["specs"]
        found[manifest.parent] = specs["search"]["bands"]["count"], specs["rope"]["factor"], specs["search"]["steps"]
    return found
