"""A dashboard of its own for every file here, Debian's Chromium to look at it, and a folder for pictures."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytest.register_assert_rewrite("tests.pages.browser.walk")
STARTUP = 180  # seconds
SLOWNESS = float(os.environ.get("QROAR_SLOWNESS", "1"))  # as in walk
SHOT = 10_000  # milliseconds for the picture of a failure


class Dashboard:
    """The server on a free port, its folder `home`, its runs in `home/runs`; may be stopped and started again."""

    def __init__(self, home: Path, serve: str = "serve.py", script: Path = ROOT / "app.py") -> None:
        self._serve, self._script = Path(__file__).with_name(serve), script
        self.home, self.runs, self.log = home, home / "runs", home / "log.txt"
        self._jobs, self._hold, self._pause = home / "jobs.txt", home / "hold.txt", home / "pause.txt"
        self._linger = home / "linger.txt"
        shutil.copytree(ROOT / ".streamlit", home / ".streamlit")
        self.start()

    def start(self) -> None:
        """Start a process that knows nothing of an earlier one but what is on disk."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(self._serve), "run", str(self._script), "--server.port", str(port)]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "QROAR_ROOTS": str(self.home),
            "QROAR_RUNS": str(self.runs),
            "QROAR_JOBS": str(self._jobs),
            "QROAR_HOLD": str(self._hold),
            "QROAR_PAUSE": str(self._pause),
            "QROAR_LINGER": str(self._linger),
        }
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, cwd=self.home, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + STARTUP
        while time.monotonic() < end:
            assert self._process.poll() is None, f"streamlit ended by itself: {self.log.read_text()[-2000:]}"
            try:
                with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("streamlit did not come up")

    def stop(self, by: int = signal.SIGTERM, within: float = 20) -> int:
        """End the process with a signal; returns its exit code, and fails where it takes more seconds than that."""
        self._process.send_signal(by)
        return self._process.wait(within * SLOWNESS)

    def cpu_seconds(self) -> float:
        """Processor time of the server since its start: wall time on a quiet machine, and the same on a busy one."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def resident_bytes(self) -> int:
        """Memory of the server that is in use now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def jobs(self) -> list[str]:
        """Labels of the background jobs that ran since the first start, in order."""
        return self._jobs.read_text().splitlines() if self._jobs.exists() else []

    def resting(self, seconds: float):
        """Inside, every run of a page rests at its title for so long."""
        return _while_there(self._pause, seconds)

    def lingering(self, seconds: float):
        """Inside, every run lingers behind its last line for so long."""
        return _while_there(self._linger, seconds)

    def holding(self, candidate: int):
        """Inside, a search stands still at this candidate until it is cancelled."""
        return _while_there(self._hold, candidate)


@contextmanager
def _while_there(file: Path, number: float):
    """Inside, the server finds this number in the file."""
    file.write_text(str(number))
    try:
        yield
    finally:
        file.unlink()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test leaves what its tabs show and what its server logged in the folder of the screenshots."""
    report = yield
    if report.when == "call" and report.failed and "shots" in item.funcargs:
        folder = item.funcargs["shots"]
        for at, page in enumerate(p for context in item.funcargs.get("tabs", ()) for p in context.pages):
            with suppress(Exception):  # a tab that hangs must not hide the failure
                page.screenshot(path=str(folder / f"failed-{item.name}-{at}.png"), full_page=True, timeout=SHOT)
        if "dashboard" in item.funcargs:
            shutil.copy(item.funcargs["dashboard"].log, folder / f"failed-{item.name}.log")
        report.sections.append(("What was on the screen", f"{folder}/failed-{item.name}*"))
    return report


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """Up for the tests of one file; nothing it logged may be a traceback."""
    up = Dashboard(tmp_path_factory.mktemp("dashboard"))
    yield up
    up.stop()
    assert "Traceback" not in up.log.read_text()


@pytest.fixture(scope="module")
def hostile_dashboard(tmp_path_factory):
    """Its stages answer at once; every string of the model and of the results is hostile."""
    up = Dashboard(tmp_path_factory.mktemp("hostile"), "serve_hostile.py")
    yield up
    up.stop()
    assert "Traceback" not in up.log.read_text()


@pytest.fixture(scope="module")
def literals(tmp_path_factory):
    """A page of hostile strings in everything that takes Markdown."""
    up = Dashboard(tmp_path_factory.mktemp("literals"), script=Path(__file__).with_name("literals.py"))
    yield up
    up.stop()


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    from tests.pages.browser.walk import chromium_path

    found = chromium_path()
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tabs():
    """The browser contexts of a test's visitors."""
    return []


@pytest.fixture
def visit(chromium, tabs, shots):
    """Opens a tab of a new visitor; no tab may have met a JavaScript error by the end of the test."""
    faults = []

    def fault(error):
        if str(error) != "undefined":  # plotly breaks its own promise when a playing animation is paused
            faults.append(str(error))

    def opened(width: int = 1280, height: int = 900, theme: str = "light"):
        tabs.append(chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme))
        page = tabs[-1].new_page()
        page.on("pageerror", fault)
        return page

    yield opened
    for context in tabs:
        context.close()
    assert not faults


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    """Where screenshots go: $QROAR_SHOTS, or a temporary folder."""
    folder = Path(os.environ.get("QROAR_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
