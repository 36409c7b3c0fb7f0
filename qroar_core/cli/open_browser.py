"""Opens a browser at an address once it answers: `python -m qroar_core.cli.open_browser ADDRESS PID`.

A process of its own, since `qroar dashboard` becomes the server. It ends without a browser where the process PID, the
server, ends before it answers.
"""

from __future__ import annotations

import sys
import time
import urllib.request
import webbrowser

import psutil

EVERY, LONGEST = 0.2, 300  # seconds


def open_when_it_answers(address: str, server: int) -> bool:
    """Open a browser at `address`; False where the process `server` ended, or nothing answered in five minutes."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and psutil.pid_exists(server):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10):
                return webbrowser.open(address)
        except OSError:
            time.sleep(EVERY)
    return False


if __name__ == "__main__":
    open_when_it_answers(sys.argv[1], int(sys.argv[2]))
