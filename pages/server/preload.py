"""All that the pages share, imported before the server listens.

Tabs that open at once would otherwise import the same modules from several ends, and Python ends such a deadlock by an
ImportError or by handing out a module that is half executed.
"""

import importlib
import pkgutil


def import_all() -> None:
    """Import every module in the folders of pages/; the pages themselves are scripts that Streamlit runs."""
    for folder in ("server", "state", "jobs", "forms", "views"):
        package = importlib.import_module(f"pages.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
