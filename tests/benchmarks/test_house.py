"""The counts of the layout, on sources made up for each; and one click of the five, traced."""

import os
import sys

import pytest
import streamlit as st

from benchmarks import house, house_traces

SOURCES = {
    "app.py": "import qroar_core.a\n",
    "pages/start.py": "\n" * 61,
    "pages/parts/menu.py": "KINDS = ['x', 'y', 'z']\nSIZE = 1\n",
    "qroar_core/__init__.py": "",
    "qroar_core/a.py": "from typing import Any\nfrom qroar_core.deep.b import B\nSIZE = 2\ndef f(x: Any) -> Any: ...\n",
    "qroar_core/deep/__init__.py": "KINDS = {'z': 1, 'y': 2, 'x': 3}\nclass Plan:\n    def go(self): ...\n",
    "qroar_core/deep/b.py": "def late():\n    from qroar_core.deep import c\n",
    "qroar_core/deep/c.py": "if TYPE_CHECKING:\n    import qroar_core.a\nSIZE = 2\nclass Plan: x = 1  # type: ignore\n",
}


def test_counts_by_folder():
    found = house.by_folder(SOURCES)
    assert list(found) == [".", "pages", "pages/parts", "qroar_core", "qroar_core/deep", "all"]
    assert found["qroar_core/deep"] == (3, 9, 4, 4, 0, 1, 0)  # files, lines, longest, names, Any, ignored, skipped
    assert found["qroar_core"] == (2, 4, 4, 1, 2, 0, 0)
    assert found["all"][:2] == (8, 77)
    assert house.too_long(SOURCES) == ["pages/start.py"]


def test_one_name_for_several_things_and_one_list_in_several_files():
    assert house.class_names(SOURCES) == {"Plan": ["qroar_core/deep/__init__.py", "qroar_core/deep/c.py"]}
    files = ["pages/parts/menu.py", "qroar_core/deep/__init__.py"]
    sizes = ["pages/parts/menu.py", "qroar_core/a.py", "qroar_core/deep/c.py"]
    assert house.constant_names(SOURCES) == {"KINDS": files, "SIZE": sizes}
    assert house.parallel(SOURCES) == {("x", "y", "z"): files}
    same = {"qroar_core/a.py": "SIZE = 2\n", "qroar_core/b.py": "SIZE = 2\n"}
    assert house.constant_names(same) == {}


def test_what_to_add_is_read_off_the_examples():
    text = (
        "# Top\n\n## A remedy\n\nOne.\n\n`a/b.py`\n\n```python\nx\n```\n\n`a/c.py`\n\n```python\n## y\n```\n\n## Else\n"
    )
    assert house.added(text) == {"remedy": ["a/b.py", "a/c.py"]}
    examples = house.added((house.ROOT / "docs/extending.md").read_text())
    assert {"interpolation", "quantizer preset", "grid"} <= examples.keys()
    assert all(len(files) + 1 <= house.ADDED[what] for what, files in examples.items())


def test_a_file_counts_where_it_is_opened_to_be_written_below_the_folder(tmp_path):
    seen = house_traces.Seen(folder=str(tmp_path), on=True)
    for path, mode, flags in (
        (f"{tmp_path}/x", "r", 0),
        ("/elsewhere/x", "w", 0),
        (f"{tmp_path}/x", None, os.O_RDONLY),
    ):
        seen.opened("open", (path, mode, flags))
    assert seen.files == set()
    ours = compile("seen.note(sys._getframe())", f"{house.ROOT}/qroar_core/made_up.py", "exec")
    exec(ours, {"seen": seen, "sys": sys})
    assert seen.files == set()  # at the top of a module: an import in passing
    inside = "def f():\n    seen.opened('open', (path, None, flags))\nf()"
    ours = compile(inside, f"{house.ROOT}/qroar_core/made_up.py", "exec")
    exec(ours, {"seen": seen, "path": f"{tmp_path}/x", "flags": os.O_WRONLY | os.O_CREAT})
    assert seen.files == {"qroar_core/made_up.py"}


@pytest.mark.slow
def test_the_files_of_a_click_on_the_demo_model(monkeypatch, tmp_path):
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path))
    monkeypatch.setattr(house_traces, "TRACES", house_traces.TRACES[:2])
    st.cache_resource.clear()
    found = house_traces.traced()
    st.cache_resource.clear()
    assert {"pages/start.py", "qroar_core/jobs.py", "qroar_core/models/load.py"} <= {*found["Demo model"]}
    wanted = {"pages/noise.py", "qroar_core/diagnostics/run.py", "qroar_core/diagnostics/logit_noise/figure.py"}
    assert wanted <= {*found["Noise, diagnosed"]}
    assert "qroar_core/scale_search/run.py" not in found["Noise, diagnosed"]
