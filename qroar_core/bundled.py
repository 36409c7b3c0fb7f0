"""Where what comes with the code is: the dashboard, its glossary, the demo model and the texts.

In a checkout they stand beside the package, as `app.py`, `pages/`, `docs/` and `assets/`. A wheel has
them inside it.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "dashboard"  # where pyproject.toml puts them in a wheel

HOME = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
APP = HOME / "app.py"  # what Streamlit runs
ASSETS = HOME / "assets"
