"""Comparisons, controls, claims and predictions that outlive the server: shown again where the form asks the same."""

import pytest
import streamlit as st

from pages import jobs
from pages.state.session import library
from qroar_core.evidence.controls import run as controls
from qroar_core.evidence.prediction import run as predict
from qroar_core.evidence.replication import run as replicate
from qroar_core.remedies import run as compare
from qroar_core.runs.store import RunStore
from qroar_core.setting import default_setting
from qroar_core.specs import ComparisonSpec
from tests.helpers import planted_comparison, planted_evidence, planted_prediction
from tests.pages.visitor import button, clicked, go, read, settled, texts

pytestmark = pytest.mark.slow


def labels(app):
    return [link.proto.label for link in app.get("page_link")]


def restarted(app):
    """A new server process knows nothing but the disk."""
    st.cache_resource.clear()
    go(app, "start")
    return clicked(app, "Demo model")


@pytest.fixture
def planted_file(stages, demo_model):
    """A comparison that an earlier server wrote, as the form asks it at first."""
    setting = default_setting(demo_model)
    spec = ComparisonSpec(search=setting.search, windows=setting.evaluation.windows, seed=setting.evaluation.seed)
    result = planted_comparison.comparison().model_copy(update={"text": "windows of an earlier day"})
    RunStore().keep(jobs.compare.key(demo_model, setting, spec), demo_model, setting, result, 1200.0)
    stages.patch(compare, "run", never)
    return spec


def never(*args, **kwargs):
    raise AssertionError("a stage ran")


def test_a_comparison_of_an_earlier_server_is_shown_where_the_form_asks_for_it(planted_file, loaded_app):
    page = go(loaded_app, "remedies")
    assert "windows of an earlier day" in texts(page)
    assert all(sentence in read(page.success[0].value) for sentence in planted_comparison.comparison().sentences)
    assert list(page.dataframe[0].value["remedy"])[:2] == ["no remedy", "band scales"]
    page.number_input(key="comparison windows").set_value(planted_file.windows + 1).run()
    assert "Not run for this setup yet" in texts(page)
    page.number_input(key="comparison windows").set_value(planted_file.windows).run()
    assert "windows of an earlier day" in texts(page)
    settled(restarted(page))
    assert "windows of an earlier day" in texts(go(page, "remedies"))


def test_the_run_in_view_says_that_it_holds_a_comparison(planted_file, loaded_app):
    page = go(loaded_app, "runs")
    assert labels(page)[1:5] == ["Diagnose it", "Its scales", "Its evaluation", "Its comparison of remedies"]
    (link,) = [link for link in page.get("page_link") if link.proto.label == "Its comparison of remedies"]
    assert link.proto.page == "remedies"
    assert list(page.dataframe[0].value["evidence"]) == ["comparison of remedies"]


def test_controls_claims_and_a_prediction_come_back_after_a_restart(loaded_app, stages):
    stages.patch(controls, "run", lambda *a, **kw: planted_evidence.controls())
    stages.patch(replicate, "run", lambda *a, **kw: planted_evidence.replication())
    stages.patch(predict, "run", lambda *a, **kw: planted_prediction.prediction())
    page = go(loaded_app, "tune")
    button(page, "Start the search").click().run()
    go(settled(page), "evidence")
    for label in ("Run the controls", "Test the claims", "Round each band alone"):
        clicked(page, label)
    shown = [heading.value for heading in page.subheader]
    assert len(shown) >= 4
    for module, name in ((controls, "run"), (replicate, "run"), (predict, "run"), (stages.search, "run")):
        stages.patch(module, name, never)
    go(restarted(page), "evidence")
    assert [heading.value for heading in page.subheader] == shown
    (entry,) = library().entries()
    assert set(entry.manifest.stages) == {"diagnose", "search", "controls", "replicate", "predict"}
    go(page, "runs")
    its = [label for label in labels(page) if label.startswith("Its")]
    assert its == ["Its diagnosis", "Its scales", "Its evaluation", "Its controls, claims, prediction"]  # no comparison
    page = go(page, "evidence")
    page.number_input(key="replication windows").set_value(7).run()
    clicked(page, "Test the claims")
    assert "an internal error" in page.error[0].value  # other windows: asked anew, and nobody may run here
    stages.patch(replicate, "run", lambda *a, **kw: planted_evidence.replication())
    button(page, "Test the claims").click().run()
    go(settled(page), "runs")
    assert "Its controls, 2 sets of claims, prediction" in labels(page)
