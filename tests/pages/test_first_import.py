"""A new server listens before it has imported anything large; a thread then imports all that the pages share."""

import subprocess
import sys
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.server import preload

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


def test_what_a_link_asks_outlives_a_change_of_page_during_the_imports(monkeypatch, tmp_path):
    """A page change empties the address; the next run puts the choice back, which nobody had read by then."""
    missing = [True]

    def changed_page():
        missing[0] = False
        st.query_params.clear()

    monkeypatch.setenv("QROAR_RUNS", str(tmp_path))
    monkeypatch.setattr(preload, "is_missing", lambda: missing[0])
    monkeypatch.setattr(preload, "import_once", changed_page)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    app.query_params.update({"model": "demo", "length": "128"})
    app.run()
    assert (app.session_state["choice"].model, app.session_state["choice"].length) == ("demo", 128)
    assert app.query_params["length"] == "128"
    assert preload.FIRST_ADDRESS not in app.session_state  # else Back would come to it again
