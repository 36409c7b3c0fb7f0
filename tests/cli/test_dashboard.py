"""`qroar dashboard` on a machine where Streamlit never ran: it asks nothing, serves, and opens a browser there."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from qroar_core.cli import dashboard
from qroar_core.cli.open_browser import open_when_it_answers
from qroar_core.errors import BadSpec

ROOT = Path(__file__).parents[2]
START = 60  # seconds


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_a_first_start_asks_nothing_and_opens_the_address_that_answers(port, tmp_path):
    home, opener, opened = tmp_path / "home", tmp_path / "opener", tmp_path / "opened"
    home.mkdir()
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    opener.chmod(0o755)
    environment = os.environ | {"HOME": str(home), "BROWSER": str(opener), "QROAR_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, "-m", "qroar_core", "dashboard", "--port", str(port)]
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            end = time.monotonic() + START
            while not opened.is_file() and server.poll() is None and time.monotonic() < end:
                time.sleep(0.2)
            assert opened.is_file(), log.read_text()
            with urllib.request.urlopen(opened.read_text()) as answer:
                page = answer.read().decode()
        finally:
            server.terminate()
    assert "<title>" in page
    assert opened.read_text() == f"http://127.0.0.1:{port}"
    assert "mail" not in log.read_text()


def test_without_a_server_no_browser_is_opened(port, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail("opened"))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert not open_when_it_answers(f"http://127.0.0.1:{port}", int(ended.stdout))


def test_the_first_free_port_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(dashboard, "FIRST", taken.getsockname()[1])
        assert dashboard._free_port() > taken.getsockname()[1]
        monkeypatch.setattr(dashboard, "TRIED", 1)
        with pytest.raises(BadSpec, match=r"--port: .* are taken; give the number of a free one"):
            dashboard._free_port()
