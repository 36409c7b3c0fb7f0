"""The prediction section of the Evidence page: empty, run, refused, failed, busy, and in other bands."""

import pytest

from qroar_core.specs import QuantizerSpec, QuantSpec
from tests.helpers import planted_prediction
from tests.pages.visitor import clicked, go, read, texts, titles

pytestmark = pytest.mark.slow

RUN = "Round each band alone"


@pytest.fixture
def asks(stages):
    """The stages answer with planted results and note what they were asked."""
    from qroar_core.evidence.prediction import run as predict
    from tests.helpers import planted

    asked = []

    def diagnosed(loaded, setting, documents, on_step=None, **kw):
        asked.append(("diagnose", setting.diagnosis, [d.name for d in documents]))
        return planted.diagnosis()

    def fake(loaded, setting, spec, documents, diagnosis, on_step=None):
        asked.append(("predict", spec, [d.name for d in documents]))
        return planted_prediction.prediction()

    stages.patch(stages.diagnose, "run", diagnosed)
    stages.patch(predict, "run", fake)
    return asked


def page(app):
    return go(app, "evidence")


def test_it_says_what_a_click_costs_and_draws_nothing_yet(loaded_app):
    page(loaded_app)
    said = texts(loaded_app)
    assert "then 10 passes over 16 windows of 1,024 tokens, and backward passes over 4 for the map by layer" in said
    assert not loaded_app.get("plotly_chart")


def test_a_click_diagnoses_then_predicts_on_held_out_text_and_shows_the_answer_first(loaded_app, asks):
    page(loaded_app)
    loaded_app.number_input(key="prediction windows").set_value(6).run()
    clicked(loaded_app, RUN)
    (first, _, calibration), (second, spec, heldout) = asks
    assert (first, second) == ("diagnose", "predict")
    assert (spec.windows, spec.length, spec.grid_windows) == (6, 1024, 4)
    assert "1900-McKinley-1.txt" in heldout
    assert not set(calibration) & set(heldout)
    result = planted_prediction.prediction()
    assert [read(w.value) for w in loaded_app.warning] == [f"**{result.headline}.**"]
    assert all(f"- {sentence}." in texts(loaded_app) for sentence in result.findings)
    assert titles(loaded_app)[0] == result.headline
    assert len(loaded_app.get("plotly_chart")) == 4
    go(loaded_app, "export")
    page(loaded_app)  # the form is as it was left, and the result is still there
    assert loaded_app.number_input(key="prediction windows").value == 6
    assert len(loaded_app.get("plotly_chart")) == 4


def test_other_bands_are_diagnosed_on_the_way_and_the_setting_stays(loaded_app, asks):
    page(loaded_app)
    loaded_app.selectbox(key="prediction bands").set_value(32).run()
    loaded_app.number_input(key="prediction map windows").set_value(0).run()
    assert "then 34 passes over 16 windows of 1,024 tokens." in texts(loaded_app)
    clicked(loaded_app, RUN)
    (_, asked, _), (_, spec, _) = asks
    assert (asked.bands.count, spec.grid_windows) == (32, 0)
    go(loaded_app, "pressure")
    assert "Not measured for this setup yet" in texts(loaded_app)  # that was no diagnosis of the setting
    assert len(asks) == 2


def test_a_quantizer_without_bands_is_told_apart(loaded_app, asks, stages):
    from dataclasses import replace

    from pages.views import prediction

    real = prediction.draw
    both = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))
    stages.patch(prediction, "draw", lambda loaded, setting: real(loaded, replace(setting, quant=both)))
    page(loaded_app)
    assert "Not under this setup: only K and the q and k activations have bands" in texts(loaded_app)
    assert RUN not in [b.label for b in loaded_app.button]
