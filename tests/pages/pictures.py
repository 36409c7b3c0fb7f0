"""The pictures of README.md and docs/, taken of the running dashboard in Chromium:

    python -m tests.pages.pictures

Runs the demo model once, starts the dashboard on the run, goes to each page and writes its picture into assets/, and
beside them assets/pictures.json with every title that stood on those pages. tests/pages/test_pictures.py compares those
with the pages of today: where a page has gained, lost or renamed a title, this command is to be run again.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:  # a browser is needed to take pictures, not to read what was seen
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "assets"
SEEN = ASSETS / "pictures.json"
WIDTH, TALL, MARGIN = 1280, 6000, 8  # pixels: a laptop's window, more than any page, below the last box
BOX = "e => e.closest('[data-testid=stLayoutWrapper]').getBoundingClientRect().bottom"
TITLES = """all => all
  .filter(e => e.checkVisibility() || e.closest('[data-testid=stExpander]'))  // those folded away, too
  .map(e => e.textContent.trim())"""


@dataclass(frozen=True)
class Shown:
    """A picture in assets/: a page, by its name in the menu, from its top down to the end of the box of a figure."""

    file: str
    page: str
    figure: str


PICTURES = (Shown("picture.webp", "Tune", "scales"), Shown("picture_outliers.webp", "Outliers", "outlier-map"))


def taken(tab: Page, shown: Shown) -> tuple[bytes, list[str]]:
    """The picture of a page, compressed without a loss, and the titles of all of it."""
    from tests.pages.browser import walk

    walk.go(tab, shown.page)
    tab.set_viewport_size({"width": WIDTH, "height": TALL})  # all of it is drawn, and nothing scrolled
    figure = walk.chart(tab, shown.figure)
    figure.locator(".main-svg").first.wait_for(timeout=walk.LONG)
    tab.wait_for_timeout(2000)  # figures follow the window
    walk.settle(tab)
    titles = tab.get_by_test_id("stMain").locator("h1, h2, h3, h4").evaluate_all(TITLES)
    end = math.ceil(figure.evaluate(BOX)) + MARGIN
    full = tab.screenshot(animations="disabled", clip={"x": 0, "y": 0, "width": WIDTH, "height": end})
    small = io.BytesIO()
    Image.open(io.BytesIO(full)).convert("RGB").save(small, "WEBP", lossless=True, method=6, quality=100)
    return small.getvalue(), titles


def main() -> None:
    """Write every picture and what stood on the pages."""
    from playwright.sync_api import sync_playwright

    from tests.pages.browser import walk
    from tests.pages.browser.conftest import Dashboard

    chromium = walk.chromium_path()
    if chromium is None:
        sys.exit("tests.pages.pictures: no Chromium here; apt-get install chromium")
    with tempfile.TemporaryDirectory() as home, sync_playwright() as driver:
        up = Dashboard(Path(home))
        try:
            command = [sys.executable, "-m", "qroar_core", "run", "demo", "--out", str(up.runs / "demo")]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
            tab.goto(f"{up.address}/?run=demo")
            tab.get_by_role("button", name="Load demo").click(timeout=walk.SHORT)
            tab.get_by_text("Rescaling can act here").first.wait_for(timeout=walk.LONG)
            found = {shown: taken(tab, shown) for shown in PICTURES}
            browser.close()
        finally:
            up.stop()
    for shown, (picture, _) in found.items():  # all of them or none
        (ASSETS / shown.file).write_bytes(picture)
        sys.stdout.write(f"assets/{shown.file}: {len(picture) / 1000:.0f} kB\n")
    seen = {shown.file: {"page": shown.page, "titles": titles} for shown, (_, titles) in found.items()}
    SEEN.write_text(json.dumps(seen, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
