"""Evidence without a browser: what each section needs, what a click asks, and what a result says."""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qroar_core.specs import WeightQuantSpec
from tests.helpers import planted_evidence
from tests.pages.visitor import clicked, go, read, texts, titles

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def asks(stages):
    """Both compositions answer with planted results and note what they were asked."""
    from qroar_core.evidence.controls import run as controls
    from qroar_core.evidence.replication import run as replicate

    asked = {"control": [], "replication": []}

    def control(loaded, setting, scales, spec, documents, diagnosis=None, on_step=None):
        asked["control"].append((scales, spec, diagnosis, [d.name for d in documents["heldout"]]))
        return planted_evidence.controls()

    def replication(loaded, setting, pairs, spec, documents, on_step=None):
        asked["replication"].append((pairs, spec))
        return planted_evidence.replication()

    stages.patch(controls, "run", control)
    stages.patch(replicate, "run", replication)
    return asked


def page(app):
    return go(app, "evidence")


def tuned(app):
    go(app, "tune")
    return page(clicked(app, "Start the search"))


def test_without_tuned_scales_the_controls_point_to_tune_and_the_claims_can_be_tested(loaded_app):
    page(loaded_app)
    said = texts(loaded_app)
    assert "No scales are tuned under this setup yet, so there is no gain to check" in said
    labels = {b.label for b in loaded_app.button}
    assert "Run the controls" not in labels
    assert "Test the claims" in labels
    assert loaded_app.multiselect(key="replication ropes").value == ["YaRN ×4", "linear ×4"]
    assert loaded_app.multiselect(key="replication quants").value == ["K int4 per token"]
    assert "2 setups; each takes a diagnosis, a search and up to 8 passes over 16 windows" in said


def test_a_click_runs_the_controls_of_the_tuned_scales(loaded_app, asks):
    tuned(loaded_app)
    assert "2 more searches, then 18 passes over 16 windows" in texts(loaded_app)
    loaded_app.number_input(key="controls shuffles").set_value(2).run()
    loaded_app.number_input(key="controls seeds").set_value(3).run()
    loaded_app.multiselect(key="controls texts").set_value(["novels"]).run()
    loaded_app.multiselect(key="controls formats").set_value(["bfloat16"]).run()
    assert "4 more searches, then 15 passes over 16 windows" in texts(loaded_app)
    clicked(loaded_app, "Run the controls")
    ((scales, spec, diagnosis, documents),) = asks["control"]
    assert float(scales.g.max()) == 2.0  # what the fake search finds
    assert (spec.shuffles, spec.seeds, spec.collections, spec.dtypes) == (2, (1, 2, 3), ("novels",), ("bfloat16",))
    assert diagnosis is not None
    assert "1900-McKinley-1.txt" in documents
    said = [read(box.value) for kind in (loaded_app.success, loaded_app.warning, loaded_app.info) for box in kind]
    result = planted_evidence.controls()
    for finding in result.findings:
        assert any(finding.sentence[1:] in text for text in said)
    assert "all 1,023 targets of each window scored. Paired intervals over windows at 95%" in texts(loaded_app)
    assert "Evaluate's" not in texts(loaded_app)
    assert titles(loaded_app)[0].startswith("Shuffled among the bands of each head, the scales lose +0.2500 nats")
    assert titles(loaded_app)[1] == "Does the gain depend on the number format of the reference?"
    go(loaded_app, "export")
    page(loaded_app)  # the form is as it was left, and the result is still there
    assert loaded_app.number_input(key="controls seeds").value == 3
    assert len(loaded_app.get("plotly_chart")) == 2


def test_it_says_why_evaluate_has_another_gain_of_the_same_scales(loaded_app, asks):
    tuned(loaded_app)
    go(loaded_app, "evaluate")
    clicked(loaded_app, "Evaluate")
    page(loaded_app)
    clicked(loaded_app, "Run the controls")
    said = "This page's +0.2000 nats and Evaluate's +0.2500 nats differ because they are measured on other targets"
    assert said in texts(loaded_app)


def test_identity_has_no_gain_to_control(loaded_app, stages):
    from qroar_core.scale_search.run import SearchOutcome
    from qroar_core.transforms.scales import identity
    from tests.helpers import planted

    def finds_nothing(loaded, *args, **kwargs):
        none = identity(loaded.geometry.n_layers, loaded.geometry.n_kv_heads, ((0, loaded.geometry.n_pairs - 1),))
        return SearchOutcome(none, none, none, none, planted.report("identity"))

    stages.patch(stages.search, "run", finds_nothing)
    tuned(loaded_app)
    assert "The search found no scales but identity" in texts(loaded_app)
    assert "Run the controls" not in {b.label for b in loaded_app.button}


def test_a_click_tests_the_claims_under_every_chosen_setting(loaded_app, asks):
    page(loaded_app)
    loaded_app.multiselect(key="replication ropes").set_value(["NTK-aware (static) ×4", "YaRN ×4"]).run()
    loaded_app.multiselect(key="replication quants").set_value(["K int3 per token", "weights int4 per channel"]).run()
    loaded_app.number_input(key="replication windows").set_value(5).run()
    clicked(loaded_app, "Test the claims")
    ((pairs, spec),) = asks["replication"]
    assert [(rope.method, rope.factor) for rope, _ in pairs] == [("ntk", 4.0), ("yarn", 4.0)] * 2
    assert [quant.k and quant.k.bits for _, quant in pairs] == [3, 3, None, None]
    assert pairs[2][1].weights == WeightQuantSpec(4)
    assert spec.windows == 5
    assert titles(loaded_app) == ["Of 12 testable claims 8 hold, 2 do not, 2 are undecided"]
    (table,) = loaded_app.dataframe
    assert list(table.value.columns[:3]) == ["setting", "claim", "verdict"]
    assert len(table.value) == 16


def test_an_empty_choice_keeps_the_one_before_and_says_so(loaded_app, asks):
    page(loaded_app)
    loaded_app.multiselect(key="replication ropes").set_value([]).run()
    assert "until then the earlier ones stay" in loaded_app.warning[0].value
    clicked(loaded_app, "Test the claims")
    assert [rope.method for rope, _ in asks["replication"][0][0]] == ["yarn", "linear"]


def test_the_settings_of_the_claims_are_in_the_address_and_come_back_with_it(loaded_app, asks):
    page(loaded_app)
    assert "claims" not in loaded_app.query_params
    loaded_app.multiselect(key="replication ropes").set_value(["NTK-aware (static) ×4"]).run()
    loaded_app.multiselect(key="replication quants").set_value(["K int3 per token", "K int4 per token"]).run()
    loaded_app.number_input(key="replication windows").set_value(5).run()
    other = follows(loaded_app)
    assert other.multiselect(key="replication ropes").value == ["NTK-aware (static) ×4"]
    assert other.multiselect(key="replication quants").value == ["K int3 per token", "K int4 per token"]
    assert other.number_input(key="replication windows").value == 5
    clicked(other, "Test the claims")
    ((pairs, spec),) = asks["replication"]
    assert [(rope.method, quant.k.bits) for rope, quant in pairs] == [("ntk", 3), ("ntk", 4)]
    assert spec.windows == 5


def test_what_of_an_address_is_not_offered_for_the_claims_is_left_out(loaded_app):
    page(loaded_app)
    loaded_app.query_params["claims"] = json.dumps(
        {
            "ropes": [{"method": "ntk", "factor": 9}, {"method": "ntk", "factor": 4}],
            "quants": [{"k": {"bits": 2}}],
            "spec": {"windows": 6},
        }
    )
    other = follows(loaded_app)
    assert other.multiselect(key="replication ropes").value == ["NTK-aware (static) ×4"]
    assert other.multiselect(key="replication quants").value == ["K int4 per token"]
    assert other.number_input(key="replication windows").value == 6


def follows(app):
    """Another visitor who opens the address of this one."""
    other = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    other.query_params.update(dict(app.query_params))
    return go(other.run(), "evidence")
