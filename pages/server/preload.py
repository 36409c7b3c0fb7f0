"""All that the pages share takes seconds to import: a new server imports it behind the first heading that it shows.

It is imported by one thread, and every other tab waits for it. Tabs that open at once would otherwise import the same
modules from several ends, and Python ends such a deadlock by an ImportError or by handing out a module that is half
executed.
"""

import importlib
import pkgutil
import threading
import time

from streamlit.runtime.pages_manager import PagesManager

SENT = 0.2  # seconds in which what a run has drawn reaches the browser: an import may hold the interpreter for longer
_LOCK = threading.Lock()
_missing = False


def serve() -> None:
    """Say that a server starts here, which has imported nothing yet. Scripts that run without one import as they go.

    Until app.py has called `st.navigation`, Streamlit would list the files of pages/ by their names.
    """
    global _missing
    _missing = True
    PagesManager.uses_pages_directory = False


def is_missing() -> bool:
    """Has this server still to import what its pages need?"""
    return _missing


def import_once() -> None:
    """Import it, or wait for the tab that does."""
    global _missing
    time.sleep(SENT)
    with _LOCK:
        if _missing:
            import_all()
            _missing = False


def import_all() -> None:
    """Import every module in the folders of pages/; the pages themselves are scripts that Streamlit runs."""
    for folder in ("server", "state", "jobs", "forms", "views"):
        package = importlib.import_module(f"pages.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
