"""The forms give back the spec they were given, also one the command line made beyond what they offer."""

import pytest
from streamlit.testing.v1 import AppTest


def page():
    import streamlit as st

    from pages.forms.diagnosis import diagnosis_form
    from pages.forms.evaluation import evaluation_form
    from pages.forms.search import search_form
    from pages.state.widget_state import delivered
    from qroar_core.specs import DiagnosisSpec, EvaluationSpec, SearchSpec

    search = SearchSpec(
        max_log2_scale=9,
        windows=100,
        l2_penalty=2.0,
        steps=5000,
        sweeps=20,
        grid_points=99,
        trials=9000,
        polish_steps=3000,
        error_metric="output",
        method="coordinate",
    )
    diagnosis = DiagnosisSpec(windows=100, eps=5e-3)
    evaluation = EvaluationSpec(lengths=(200_000, 300_000), windows=300, stride=150_000)
    st.session_state["given"] = [search, diagnosis, evaluation]
    st.session_state["made"] = [
        search_form(search),
        diagnosis_form(diagnosis),
        evaluation_form(evaluation, 4096, True),
    ]
    delivered()


@pytest.fixture(scope="module")
def app():
    app = AppTest.from_function(page).run()
    assert not app.exception, [e.stack_trace for e in app.exception]
    return app


def test_a_spec_from_elsewhere_is_shown_as_it_is(app):
    assert app.session_state["made"] == app.session_state["given"]
    assert app.number_input(key="search windows").value == 100
    assert app.selectbox(key="eps").value == 5e-3
    assert app.number_input(key="l2_penalty").max == 2.0


def test_the_pull_towards_1_is_set_here(app):
    app.number_input(key="l2_penalty").set_value(0.03).run()
    assert app.session_state["made"][0].l2_penalty == 0.03
