"""All that the pages share takes seconds to import: a new server begins when it listens, and shows a heading meanwhile.

It is imported by one thread, and every other tab waits for it. Tabs that open at once would otherwise import the same
modules from several ends, and Python ends such a deadlock by an ImportError or by handing out a module that is half
executed.
"""

import importlib
import pkgutil
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from streamlit.runtime.pages_manager import PagesManager

from pages.server.shutdown import until_the_end
from qroar_core.large_imports import large_imports

SENT = 0.2  # seconds for the server to listen, or for what a run has drawn to reach the browser: an import may hold the
# interpreter for longer
FIRST_ADDRESS = "what the address asked before the imports"  # session: a page change meanwhile empties the address
_LOCK = threading.Lock()
_missing = False


def serve() -> None:
    """Say that a server starts here, which has imported nothing yet. Scripts that run without one import as they go.

    Until app.py has called `st.navigation`, Streamlit would list the files of pages/ by their names.
    """
    global _missing
    _missing = True
    PagesManager.uses_pages_directory = False


@asynccontextmanager
async def from_the_start(server: Any) -> AsyncIterator[None]:
    """While the server runs: what its pages need is imported while the first browser still loads the page."""
    threading.Thread(target=import_once, name="qroar-preload", daemon=True).start()
    async with until_the_end(server):
        yield


def is_missing() -> bool:
    """Has this server still to import what its pages need?"""
    return _missing


def import_once() -> None:
    """Import it, or wait for the thread that does."""
    global _missing
    time.sleep(SENT)
    with _LOCK:
        if _missing:
            with large_imports(freeze=True):
                import_all()
            _missing = False


def import_all() -> None:
    """Import every module in the folders of pages/; the pages themselves are scripts that Streamlit runs."""
    for folder in ("server", "state", "jobs", "forms", "views"):
        package = importlib.import_module(f"pages.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
