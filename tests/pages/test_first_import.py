"""A new server listens before it has imported anything large; a thread then imports all that the pages share."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SERVER = """
import asyncio, sys
import app
from pages.server import preload
print(type(app.server).__name__, preload.is_missing(), *(name in sys.modules for name in ("torch", "transformers")))
async def served():
    async with preload.from_the_start(app.server):
        while preload.is_missing():
            await asyncio.sleep(0.1)
asyncio.run(served())
print(preload.is_missing(), *sorted(name for name in sys.modules if name.startswith("pages.")))
"""


def test_the_server_imports_nothing_large_before_it_listens_and_then_every_module_of_the_pages():
    ran = subprocess.run([sys.executable, "-c", SERVER], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = ran.stdout.splitlines()
    assert first.split() == ["App", "True", "False", "False"]
    missing, *names = second.split()
    assert missing == "False"
    files = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "pages").glob("*/**/*.py")}
    assert set(names) == {".".join(path.parts).removesuffix(".__init__") for path in files}
