"""The Outliers page: layers to pick from, the large map with its bands, what outliers cost."""

import json

import pytest

from qroar_core.diagnostics.result import Diagnosis
from tests.helpers import planted
from tests.pages.visitor import clicked, go, read, titles

pytestmark = pytest.mark.slow
ERROR, SHIFT = 2, 4  # places of two figures on the page


def diagnosed(app):
    go(app, "outliers")
    return clicked(app, "Diagnose")


def test_it_opens_on_the_loudest_layer_and_head_with_band_edges(loaded_app):
    app = diagnosed(loaded_app)
    assert titles(app) == [
        "K after RoPE peaks at 3: layer 0, KV head 1, channel 0",
        "Which channels of K after RoPE stand out? (layer 0, KV head 1)",
        "Outliers are 1.5% of the entries and carry 26.7% of the int4 error",
        "Channels of K after RoPE that stand out: 4, of which 3 in band 1, by up to 5 times their head's median",
        "Of the channels of K after RoPE that stand out early or late, 45% do both (90% by chance)",
        "One channel of K carries up to 2.4 times its even share of the int4 error",
        "Rows of W_Q in layer 0: channel 2: pair 2, band 1, of head 0 is 6 times its head's median row "
        "(2.2 [1.7, 3.2] by chance, largest of all layers)",
        "Input columns of W_Q that stand out: 1, 12.5% of all; they carry 25.0% of the int4 per tensor error and 25.0% "
        "of the int4 per channel error",
        "Rows of W_Q that stand out: 1, of which 1 in band 1, by up to 6 times their head's median",
        "Outlier rows of W_Q are 3.1% of its rows and carry 5.0% of the int4 error per tensor and 20.0% of the int4 "
        "error per channel",
        "One channel's rows of W_Q carry up to 1 times its even share of the int4 error per tensor and 5.2 times its "
        "even share of the int4 error per channel",
    ]
    large = json.loads(app.get("plotly_chart")[1].proto.spec)["layout"]
    assert [line["y0"] for line in large["shapes"]] == [1.5, 3.5, 5.5]
    assert [note["text"] for note in large["annotations"]] == ["band 0", "band 1"] * 2


def test_tensor_layer_and_head_change_the_large_map(loaded_app, stages):
    whole = planted.diagnosis()
    every = {side: [[1.0, 0.5], [0.25, 0.0]] for side in whole.tails}
    update = {
        "jaccard": every,
        "mass_moved": every,
        "stand_out": every,
        "jaccard_null": every,
        "mass_moved_null": every,
        "share_null": {side: [0.9, 0.8, 1.0] for side in every},
        "count": every,
        "magnitude": every,
    }
    moved = whole.outliers.model_copy(
        update=update | {"others": [found.model_copy(update=update) for found in whole.outliers.others]}
    )
    stages.patch(stages.diagnose, "run", lambda *a, **kw: whole.model_copy(update={"outliers": moved}))
    app = diagnosed(loaded_app)
    app.segmented_control(key="outlier tensor").set_value("q/pre").run()
    app.selectbox(key="outlier layer").select(1).run()
    app.selectbox(key="outlier head").select(0).run()
    assert titles(app)[0].startswith("Q before RoPE peaks at 3")
    assert titles(app)[1] == "Which channels of Q before RoPE stand out? (layer 1, KV head 0)"
    frame = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["shapes"][0]
    assert frame["x0"] > 1.5  # the second panel is framed


def test_rule_and_parameter_are_applied_at_once(loaded_app, stages):
    app = diagnosed(loaded_app)
    stages.patch(stages.diagnose, "run", None)  # no new diagnosis
    slider = app.select_slider(key="outlier parameter iqr")
    assert slider.options == ["1.5", "3"]
    slider.set_value(3.0).run()
    assert "do both (90% by chance)" in titles(app)[SHIFT]
    assert "100% do both" in titles(app)[SHIFT]
    app.segmented_control(key="outlier rule").set_value("mad").run()
    assert titles(app)[ERROR].startswith("Outliers are 10.0% of the entries")
    assert app.select_slider(key="outlier parameter mad").options == ["3.5"]
    app.segmented_control(key="outlier rule").set_value("iqr").run()
    assert "100% do both" in titles(app)[SHIFT]  # the fence picked before is still there
    assert not app.exception


def test_another_rule_in_the_options_asks_for_a_new_diagnosis(loaded_app, stages):
    app = diagnosed(loaded_app)
    asked = []
    whole = planted.diagnosis()
    stages.patch(stages.diagnose, "run", lambda loaded, setting, *a, **kw: asked.append(setting.diagnosis) or whole)
    app.selectbox(key="outlier rule asked").set_value("percentile").run()
    app.number_input(key="outlier parameter asked percentile").set_value(0.97).run()
    clicked(app, "Diagnose")
    assert (asked[-1].outlier_rule, asked[-1].outlier_parameter) == ("percentile", 0.97)
    app.number_input(key="outlier parameter asked percentile").set_value(0.3).run()
    assert "must lie in [0.5, 1)" in read(app.error[0].value)


def test_a_matrix_and_a_width_are_picked_and_what_is_missing_says_why(loaded_app, stages):
    app = diagnosed(loaded_app)
    app.segmented_control(key="outlier matrix").set_value("W_K").run()
    app.segmented_control(key="outlier width").set_value("int8").run()
    assert titles(app)[9] == "Outlier rows of W_K are 3.1% of its rows and carry 6.2% of the int8 error per tensor"
    assert not app.exception


@pytest.mark.parametrize(("why", "said"), [("latent", "Not available: latent."), ("", "older version; diagnose again")])
def test_a_model_without_matrices_says_why(loaded_app, stages, why, said):
    whole = planted.diagnosis()
    bare = whole.outliers.model_copy(update={"matrix_maps": {}, "matrices": {}, "no_matrices": why})
    stages.patch(stages.diagnose, "run", lambda *a, **kw: whole.model_copy(update={"outliers": bare}))
    app = diagnosed(loaded_app)
    assert any(said in read(info.value) for info in app.info)


def test_deep_models_are_paged(loaded_app, stages):
    whole = planted.diagnosis()
    maps = {side: layers * 10 for side, layers in whole.outliers.maps.items()}
    deep = whole.model_copy(update={"outliers": whole.outliers.model_copy(update={"maps": maps})})
    stages.patch(stages.diagnose, "run", lambda *a, **kw: deep)
    app = diagnosed(loaded_app)
    pages = next(s for s in app.selectbox if s.label == "Layers shown")
    assert pages.options == ["0–11", "12–19"]
    pages.select_index(1).run()
    assert titles(app)[0].endswith("(layers 12–19 of 20)")
    app.selectbox(key="outlier layer").select(17).run()
    assert "(layer 17, KV head 1)" in titles(app)[1]
    assert not app.exception


def test_nulls_are_counted_once_for_a_result(loaded_app, monkeypatch):
    """Their quantiles took more than half of every interaction with a diagnosis of the size of an 8B model."""
    counted, own = [], Diagnosis.null_rows
    monkeypatch.setattr(Diagnosis, "null_rows", lambda self, *parts: (counted.append(parts), own(self, *parts))[1])
    app = diagnosed(loaded_app)
    assert counted == [("outliers",)]
    app.selectbox(key="outlier head").set_value(0).run()
    assert counted == [("outliers",)]
