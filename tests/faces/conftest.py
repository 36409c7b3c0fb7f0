"""Pages under test: the app with fake stages, one loaded demo model, and waiting for background work."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "figures")]

import visitor  # noqa: E402


@pytest.fixture(scope="session")
def demo_model():
    from qroar_core import load

    importlib.import_module("pages.parts")  # all of it: not within the time of the first page
    return load.run("demo", device="cpu")


@pytest.fixture
def stages(monkeypatch, demo_model, tmp_path_factory):
    """Stages that answer at once with planted results. A test replaces the one it is about."""
    import planted

    from qroar_core import diagnose, evaluate, load, search
    from qroar_core.maths.rescale import identity
    from qroar_core.models.patch import undo_scales

    def fake_search(loaded, rope, quant, spec, texts, diagnosis=None, on_step=None, resume=None, storage=None):
        pairs, count = loaded.geometry.n_pairs, spec.bands.count
        cuts = [round(i * pairs / count) for i in range(count + 1)]
        bands = tuple((a, b - 1) for a, b in zip(cuts, cuts[1:]))
        none = identity(loaded.geometry.n_layers, loaded.geometry.n_kv_heads, bands, spec.mode, spec.granularity)
        turned = torch.full((*none.g.shape[:2], pairs), 0.5, dtype=torch.float64) if spec.angles else None
        found = type(none)(none.mode, none.granularity, none.bands, none.g * 2, turned)
        return search.SearchOutcome(found, found, none, none, planted.report())

    monkeypatch.setenv("QROAR_RUNS", str(tmp_path_factory.mktemp("runs")))
    monkeypatch.setattr(load, "run", lambda source, on_step=None, **kw: demo_model)
    monkeypatch.setattr(diagnose, "run", lambda *a, on_step=None, **kw: planted.diagnosis(), raising=False)
    monkeypatch.setattr(search, "run", fake_search, raising=False)
    monkeypatch.setattr(evaluate, "run", lambda *a, on_step=None, **kw: planted.evaluation())
    st.cache_resource.clear()
    yield SimpleNamespace(diagnose=diagnose, search=search, evaluate=evaluate, load=load, patch=monkeypatch.setattr)
    undo_scales(demo_model)


@pytest.fixture
def app(stages):
    """A fresh visitor on the Load page."""
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run()


@pytest.fixture
def loaded_app(app):
    """A visitor who has clicked the demo model."""
    visitor.button(app, "Demo model").click().run()
    return visitor.settled(app)
