"""Several tabs open a new server at once: whatever their threads would import, the server has imported before."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SERVER = """
import sys
import app
print(type(app.server).__name__, *sorted(name for name in sys.modules if name.startswith("pages.")))
"""


def test_the_server_has_imported_every_module_of_the_pages_before_it_listens():
    ran = subprocess.run([sys.executable, "-c", SERVER], cwd=ROOT, capture_output=True, text=True, check=True)
    kind, *names = ran.stdout.split()
    assert kind == "App"
    files = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "pages").glob("*/**/*.py")}
    assert set(names) == {".".join(path.parts).removesuffix(".__init__") for path in files}
