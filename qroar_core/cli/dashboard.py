"""The dashboard from the command line: Streamlit on the app that comes with the package."""

from __future__ import annotations

import os
import subprocess
import sys

import typer

from qroar_core.bundled import APP
from qroar_core.cli.root import app
from qroar_core.errors import BadSpec

PORTS = 1 << 16


@app.command()
def dashboard(
    port: int | None = typer.Option(None, help="Port of 127.0.0.1 to listen at; Streamlit's 8501 by default."),
    browser: bool = typer.Option(True, help="Open a browser window."),
) -> None:
    """Open the dashboard in a browser."""
    if port is not None and not 0 < port < PORTS:
        raise BadSpec(f"must lie in 1 to {PORTS - 1}, got {port}", where="--port", do="give another number")
    command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.headless={not browser}".lower()]
    command += [f"--server.port={port}"] if port is not None else []
    if os.name == "nt":  # there exec would leave the shell at its prompt at once
        raise typer.Exit(subprocess.call(command))
    sys.stdout.flush()
    os.execv(sys.executable, command)  # so that signals reach the server itself
