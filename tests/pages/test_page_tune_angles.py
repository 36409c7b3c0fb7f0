"""Pair angles on the Tune page: switched on and off; greyed out where a method or a norm forbids them."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.visitor import clicked, go, texts

pytestmark = pytest.mark.slow

LABEL = "Also search pair angles"


@pytest.fixture
def tune(loaded_app):
    go(loaded_app, "tune")
    assert not loaded_app.exception, [e.stack_trace for e in loaded_app.exception]
    return loaded_app


def toggle(app):
    return next(t for t in app.toggle if t.label == LABEL)


def test_the_switch_is_the_searchs_and_its_angles_are_drawn(tune):
    assert not toggle(tune).value
    assert not tune.session_state["choice"].search or not tune.session_state["choice"].search.angles
    toggle(tune).set_value(True).run()
    assert tune.session_state["choice"].search.angles
    assert not tune.exception, [e.stack_trace for e in tune.exception]
    clicked(tune, "Start the search")
    assert not tune.exception, [e.stack_trace for e in tune.exception]
    assert "100% of the pairs lie more than 15 degrees off the axes they had" in texts(tune)  # 0.5 rad is 29 degrees
    toggle(tune).set_value(False).run()
    assert not tune.session_state["choice"].search.angles


def test_another_method_greys_the_switch_and_says_why(tune):
    next(s for s in tune.selectbox if s.label == "Method").set_value("coordinate").run()
    assert toggle(tune).disabled
    assert "by gradients only" in toggle(tune).help


def has_qk_norm():
    from pages.forms.search import search_form
    from qroar_core.specs import SearchSpec

    search_form(SearchSpec(), {"angles": "the norm's gain cannot turn a pair"})


def test_a_norm_before_rope_greys_the_switch():
    app = AppTest.from_function(has_qk_norm).run()
    assert not app.exception, [e.stack_trace for e in app.exception]
    assert toggle(app).disabled
    assert toggle(app).help.endswith("Disabled: the norm's gain cannot turn a pair.")


def test_what_the_cached_objective_counts_is_chosen_here(tune):
    tune.selectbox(key="error_metric").set_value("logits").run()
    assert tune.session_state["choice"].search.error_metric == "logits"
    assert "logits: mean square error of the logits" in tune.selectbox(key="error_metric").options
