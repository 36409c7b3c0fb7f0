"""Where what comes with the code is: the dashboard, the demo model and the texts.

In a checkout they stand beside the package, as `app.py`, `pages/` and `assets/`. A wheel carries them inside it.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "dashboard"  # where pyproject.toml puts them in a wheel

HOME = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
APP = HOME / "app.py"  # what Streamlit runs
ASSETS = HOME / "assets"
