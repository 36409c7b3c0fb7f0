"""The dashboard from the command line: Streamlit on the app that comes with the package."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import typer

from qroar_core.bundled import APP
from qroar_core.cli.root import app
from qroar_core.errors import BadSpec

PORTS = 1 << 16
HOST, FIRST, TRIED = "127.0.0.1", 8501, 100  # Streamlit's own first port, and the next ones where it is taken


@app.command()
def dashboard(
    port: int | None = typer.Option(None, help="Port of 127.0.0.1 to listen at; the first free from 8501 by default."),
    browser: bool = typer.Option(True, help="Open a browser window."),
) -> None:
    """Open the dashboard in a browser."""
    if port is not None and not 0 < port < PORTS:
        raise BadSpec(f"must lie in 1 to {PORTS - 1}, got {port}", where="--port", do="give another number")
    port = port or _free_port()
    # headless: else Streamlit asks for an e-mail address at its first start, and waits
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.headless=true", f"--server.port={port}"]
    sys.stdout.flush()
    if browser:
        opener = [sys.executable, "-m", "qroar_core.cli.open_browser", f"http://{HOST}:{port}", str(os.getpid())]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.Popen(opener, **quiet)  # type: ignore[call-overload]
    if os.name == "nt":  # there exec would leave the shell at its prompt at once
        raise typer.Exit(subprocess.call(command))
    os.execv(sys.executable, command)  # so that signals reach the server itself


def _free_port() -> int:
    """The first port that nobody listens at."""
    for port in range(FIRST, FIRST + TRIED):
        with socket.socket() as tried:
            if tried.connect_ex((HOST, port)):
                return port
    raise BadSpec(f"{FIRST} to {FIRST + TRIED - 1} are taken", where="--port", do="give the number of a free one")
