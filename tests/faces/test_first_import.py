"""Several tabs open a new server at once: their threads import the same modules from several ends."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
THREADS = """
import importlib, sys, threading
start, faults = threading.Barrier(4), []
def tab(name):
    start.wait()
    try:
        importlib.import_module(name)
    except Exception as fault:
        faults.append(f"{name}: {fault}")
names = ("session", "strip", "history", "work.exporting")
threads = [threading.Thread(target=tab, args=(f"pages.parts.{name}",)) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len([name for name in sys.modules if name.startswith("pages.parts")]), *faults, sep="|")
"""


def test_threads_that_import_the_pages_at_once_all_get_them_whole():
    ran = subprocess.run([sys.executable, "-c", THREADS], cwd=ROOT, capture_output=True, text=True, check=True)
    count, *faults = ran.stdout.strip().split("|")
    assert faults == []
    files = [path for path in (ROOT / "pages" / "parts").rglob("*.py")]
    assert int(count) == len(files)  # all of them: no page imports one later, beside another tab
