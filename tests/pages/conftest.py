"""Pages under test: a visitor who has loaded the demo model."""

from dataclasses import replace

import pytest

from qroar_core.runs.folder import RunFolder
from qroar_core.runs.pipeline import run
from qroar_core.setting import default_setting
from tests.helpers import planted
from tests.pages import visitor


@pytest.fixture(autouse=True)
def folds_are_open(monkeypatch):
    """Figures that stand folded are drawn from the start, so that a test sees them; see `render.folded`."""
    monkeypatch.setattr("pages.views.render.OPEN", True)


@pytest.fixture
def loaded_app(app):
    """A visitor who has clicked the demo model."""
    visitor.button(app, "Demo model").click().run()
    return visitor.settled(app)


@pytest.fixture
def written(stages, demo_model):
    """A whole run in the demo's default setting, or another, in the folder asked."""
    stages.patch("qroar_core.runs.pipeline.report_html", lambda *a, **k: "<html></html>")
    stages.patch(stages.diagnose, "run", lambda *a, **kw: planted.diagnosis())

    def make(path, **changed):
        setting = replace(default_setting(demo_model), **changed)
        folder = RunFolder.open(path, demo_model, setting, "python -m qroar_core run demo")
        run(demo_model, setting, {"calibration": [], "heldout": []}, folder, lambda step: None)
        return folder.path

    return make
