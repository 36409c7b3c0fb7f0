"""The journey on the demo model in a real Chromium: load, diagnose, tune, evaluate, export.

Screenshots of every page go to $QROAR_SHOTS, or to a temporary folder.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
LONG = 240_000  # milliseconds; two shared cores
SHORT = 30_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The dashboard on a free port of this machine, in an empty folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("dashboard")
    shutil.copytree(ROOT / ".streamlit", home / ".streamlit")
    log = (home / "log.txt").open("w")
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "QROAR_ROOTS": str(home), "QROAR_RUNS": str(home / "runs")}
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(address, process)
        yield address, home
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _wait_until_up(address, process):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "streamlit ended by itself"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("streamlit did not come up")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("QROAR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = Path(os.environ.get("QROAR_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_whole_journey_on_the_demo_model(server, browser, shots):
    address, home = server
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))

    started = time.monotonic()
    page.goto(address)
    page.get_by_role("button", name="Demo model").click(timeout=SHORT)
    page.get_by_text("Rescaling can act here").wait_for(timeout=SHORT)
    assert time.monotonic() - started < 20
    assert page.title() == "Q-ROAR"
    shoot(page, shots, "1-start")

    go(page, "Pressure")
    strip = page.locator(".st-key-strip")
    strip.get_by_text("Rescaling can act here").wait_for(timeout=SHORT)
    for words in ("demo", "YaRN ×4", "K int4 per token", "1024 tokens", "weights as loaded"):
        assert words in strip.inner_text()
    page.get_by_role("button", name="Diagnose", exact=True).click()
    page.locator(".js-plotly-plot").nth(5).wait_for(timeout=LONG)  # two before the diagnosis, four after
    shoot(page, shots, "2-pressure")

    go(page, "Tune")
    page.get_by_role("button", name="Start the search").click()
    page.get_by_text("How far is each band scaled?").wait_for(timeout=LONG)
    assert page.get_by_text(re.compile(r"(Significant gain: \+|No significant gain: keep identity)")).count() == 1
    page.get_by_role("button", name="Apply").click()
    page.locator(".st-key-strip").get_by_text("scales applied").wait_for(timeout=SHORT)
    page.get_by_role("button", name="Undo").click()
    page.locator(".st-key-strip").get_by_text("weights as loaded").wait_for(timeout=SHORT)
    shoot(page, shots, "3-tune")

    go(page, "Evaluate")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    page.get_by_text("How well is unseen text predicted").wait_for(timeout=LONG)
    page.wait_for_timeout(1000)
    ppl = metrics(page)
    assert ppl["PPL, reference"] < ppl["PPL, quantized, tuned"] < ppl["PPL, quantized"]
    shoot(page, shots, "4-evaluate")

    page.reload()  # the address says what was chosen, the manager still has the result
    page.get_by_text("How well is unseen text predicted").wait_for(timeout=SHORT)
    wait_for_metrics(page, ppl)
    second = browser.new_page()
    second.goto(page.url)
    second.get_by_text("How well is unseen text predicted").wait_for(timeout=SHORT)
    wait_for_metrics(second, ppl)
    second.close()

    go(page, "Export")
    page.get_by_role("combobox", name="Scales to export").click()
    page.get_by_role("option", name="tuned scales").click()
    page.get_by_text("In the search:").wait_for(timeout=SHORT)
    with page.expect_download(timeout=SHORT) as download:
        page.get_by_role("button", name="Download scales.json").click()
    content = json.loads(Path(download.value.path()).read_text())
    assert (content["format"], content["version"], content["model"]["name"]) == ("qroar-scales", 1, "demo")
    assert len(content["bands"]) == 8
    assert any(g != 1 for layer in content["g"] for head in layer for g in head)
    page.get_by_label("New folder").fill(str(home / "checkpoint"))
    page.get_by_role("button", name="Write the checkpoint").click()
    page.get_by_text("Plain transformers loads it").wait_for(timeout=SHORT)
    assert json.loads((home / "checkpoint" / "config.json").read_text())["rope_parameters"]["rope_type"] == "yarn"
    shoot(page, shots, "5-export")
    assert not faults
    assert "Traceback" not in (home / "log.txt").read_text()


def test_cancel_answers_within_two_seconds_and_survives_a_page_change(server, browser):
    address, _ = server
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f'{address}/?model=demo&search={{"method":"coordinate","grid_points":33,"sweeps":9}}')
    page.get_by_role("button", name="Demo model").click(timeout=SHORT)
    page.get_by_text("Rescaling can act here").wait_for(timeout=SHORT)
    go(page, "Tune")
    page.get_by_role("button", name="Start the search").click()
    page.get_by_role("button", name="Cancel").wait_for(timeout=SHORT)
    go(page, "Export")
    page.get_by_text("cpu is busy").wait_for(timeout=SHORT)
    go(page, "Tune")
    page.get_by_text(re.compile("^Tune demo: .* s")).wait_for(timeout=LONG)
    asked = time.monotonic()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text(re.compile("Tune demo: (cancelled|stopping)")).wait_for(timeout=SHORT)
    assert time.monotonic() - asked < 2
    page.get_by_text("Tune demo: cancelled").wait_for(timeout=SHORT)


def go(page, name):
    """Change page by the sidebar, as a person does."""
    page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
    page.get_by_role("heading", name=re.compile(f"^{name}")).first.wait_for(timeout=SHORT)


def metrics(page):
    """The metric boxes, label -> number."""
    page.get_by_test_id("stMetricValue").nth(2).wait_for(timeout=SHORT)
    boxes = page.get_by_test_id("stMetric").all()
    found = {}
    for box in boxes:
        label = box.get_by_test_id("stMetricLabel").inner_text().strip()
        found[label] = float(box.get_by_test_id("stMetricValue").inner_text().strip().rstrip("%"))
    return found


def wait_for_metrics(page, expected):
    """The boxes come one by one: wait until they show `expected`."""
    end = time.monotonic() + 10
    while metrics(page) != expected and time.monotonic() < end:
        page.wait_for_timeout(200)
    assert metrics(page) == expected


def shoot(page, folder, name):
    """The whole page as a picture, once it has come to rest."""
    page.wait_for_timeout(700)
    height = page.get_by_test_id("stMain").evaluate("e => e.scrollHeight")
    before = page.viewport_size
    page.set_viewport_size({"width": before["width"], "height": min(4000, max(900, height + 40))})
    page.wait_for_timeout(500)
    page.screenshot(path=str(folder / f"{name}.png"))
    page.set_viewport_size(before)
