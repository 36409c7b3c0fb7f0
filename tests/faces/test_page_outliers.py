"""The Outliers page: layers to pick from, the large map with its bands, what outliers cost."""

import json

import planted
import pytest
from visitor import clicked, go, titles

pytestmark = pytest.mark.slow


def diagnosed(app):
    go(app, "outliers")
    return clicked(app, "Diagnose")


def test_it_opens_on_the_loudest_layer_and_head_with_band_edges(loaded_app):
    app = diagnosed(loaded_app)
    assert titles(app) == [
        "K after RoPE peaks at 3: layer 0, KV head 1, channel 0",
        "Which channels of K after RoPE stand out? (layer 0, KV head 1)",
        "Outliers of K after RoPE: near and far share 44% of their channels on average",
        "Outliers are 1.5% of the entries and carry 26.7% of the int4 error",
    ]
    large = json.loads(app.get("plotly_chart")[1].proto.spec)["layout"]
    assert [line["y0"] for line in large["shapes"]] == [1.5, 3.5, 5.5]
    assert [note["text"] for note in large["annotations"]] == ["band 0", "band 1"] * 2


def test_tensor_layer_and_head_change_the_large_map(loaded_app, stages):
    whole = planted.diagnosis()
    every = {side: [[1.0, 0.5], [0.25, 0.0]] for side in whole.tails}
    moved = whole.outliers.model_copy(update={"jaccard": every, "mass_moved": every})
    stages.patch(stages.diagnose, "run", lambda *a, **kw: whole.model_copy(update={"outliers": moved}))
    app = diagnosed(loaded_app)
    app.segmented_control(key="outlier tensor").set_value("q/pre").run()
    app.selectbox(key="outlier layer").select(1).run()
    app.selectbox(key="outlier head").select(0).run()
    assert titles(app)[0].startswith("Q before RoPE peaks at 3")
    assert titles(app)[1] == "Which channels of Q before RoPE stand out? (layer 1, KV head 0)"
    frame = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["shapes"][0]
    assert frame["x0"] > 1.5  # the second panel is framed


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
