"""The Noise page: reference, quantized and tuned, and where tuned comes from."""

import json
from dataclasses import replace

import pytest
import torch

from pages import jobs
from pages.jobs.applied_scales import ScalesOrigin
from pages.state.session import manager
from qroar_core.diagnostics.logit_noise.result import NoiseCurves
from qroar_core.diagnostics.result import LayerGroupDiagnosis
from qroar_core.scale_search.run import SearchOutcome
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import identity
from tests.diagnostics.hidden_states import found
from tests.diagnostics.noise_with_nulls import D
from tests.helpers import planted
from tests.pages.visitor import clicked, go, texts, titles

pytestmark = pytest.mark.slow


def lines(app, chart):
    return [t.get("name") for t in json.loads(app.get("plotly_chart")[chart].proto.spec)["data"]]


def diagnosed(app):
    go(app, "noise")
    return clicked(app, "Diagnose")


@pytest.fixture
def recorded(stages):
    """Every diagnosis asked for, by the scales in it; tuned ones have half the noise."""
    asked = []

    def run(*args, scales=None, **kwargs):
        asked.append(scales)
        found = planted.diagnosis()
        if scales is None:
            return found
        noise = found.logit_noise.model_copy(update={"rms": [0.05, 0.1]})
        return found.model_copy(update={"logit_noise": noise, "scales_mode": scales.mode})

    stages.patch(stages.diagnose, "run", run)
    return asked


def test_without_a_search_it_shows_reference_and_quantized_and_points_to_tune(loaded_app):
    app = diagnosed(loaded_app)
    assert lines(app, 0) == ["quantized", "quantized", "reference", "reference"]
    assert "Search scales on the Tune page" in texts(app)
    assert "Overlay the tuned scales" not in [b.label for b in app.button]
    assert app.segmented_control(key="split model").options == ["quantized"]
    assert len(app.get("plotly_chart")) == 8


def test_folded_figures_are_drawn_once_a_reader_opens_them(loaded_app, monkeypatch):
    monkeypatch.setattr("pages.views.render.OPEN", False)
    app = diagnosed(loaded_app)
    assert len(app.get("plotly_chart")) == 3
    (fold,) = [one for one in app.expander if one.label.startswith("By distance")]
    assert not fold.children
    app.session_state[f"fold: {fold.label}"] = True
    app.run()
    assert len(app.get("plotly_chart")) == 8


def test_tuned_scales_are_overlaid_from_a_second_diagnosis(loaded_app, recorded, demo_model):
    app = diagnosed(loaded_app)
    go(app, "tune")
    clicked(app, "Start the search")
    go(app, "noise")
    assert lines(app, 0) == ["quantized", "quantized", "reference", "reference"]
    clicked(app, "Overlay the tuned scales")
    assert [None if s is None else float(s.g.max()) for s in recorded] == [None, 2.0]
    keys = [jobs.diagnose.key(demo_model, default_setting(demo_model), scales) for scales in recorded]
    assert [manager().snapshot(key).label for key in keys] == ["Diagnose demo", "Diagnose demo with scales"]
    assert lines(app, 0) == ["quantized"] * 2 + ["tuned"] * 2 + ["reference"] * 2
    assert titles(app)[0] == "Does the noise on the logits grow with position? Tuned scales change its RMS by -50%"
    assert "Overlay the tuned scales" not in [b.label for b in app.button]
    app.segmented_control(key="split model").set_value("tuned").run()
    assert any("Tuned: at the farthest, most" in title for title in titles(app))


def test_scales_that_were_not_kept_are_said_to_be(loaded_app, stages, recorded):
    found = identity(4, 2, ((0, 15), (16, 31)))
    outcome = SearchOutcome(found, found, found, found, planted.report("identity"))
    stages.patch(stages.search, "run", lambda *a, **kw: outcome)
    app = diagnosed(loaded_app)
    go(app, "tune")
    clicked(app, "Start the search")
    go(app, "noise")
    clicked(app, "Overlay the tuned scales")
    assert "what the search found and did not keep: no significant gain: keep identity" in texts(app)


def test_scales_applied_by_hand_can_be_overlaid_without_a_search(loaded_app, recorded, demo_model):
    from qroar_core.models.patch import apply_scales

    by_hand = identity(4, 2, ((0, 15), (16, 31)))
    by_hand.g[0, 0, 0] = 4.0
    setting = default_setting(demo_model)
    elsewhere = replace(setting, rope=RopeSpec("linear", 2.0))
    apply_scales(demo_model, by_hand, ScalesOrigin(elsewhere, "by hand"))  # the fixture takes them out again
    app = diagnosed(loaded_app)
    assert "Overlay the tuned scales" not in [b.label for b in app.button]  # another setting's, or another person's
    assert "scales of another setup applied: linear ×2, K int4 per token" in texts(app)
    apply_scales(demo_model, by_hand, ScalesOrigin(setting, "by hand"))
    clicked(app.run(), "Overlay the tuned scales")
    assert recorded[1] is by_hand
    assert "tuned" in lines(app, 0)
    assert "The tuned scales are those applied to the loaded weights: by hand." in texts(app)


def test_taken_apart_by_layer(loaded_app):
    app = diagnosed(loaded_app)
    app.segmented_control(key="split rows").set_value("layer").run()
    assert any("does each layer make its noise" in title for title in titles(app))


def test_nothing_quantized_nothing_to_show(loaded_app, stages):
    stages.patch(stages.diagnose, "run", lambda *a, **kw: planted.diagnosis(quantized=False))
    app = diagnosed(loaded_app)
    assert "Nothing is quantized" in texts(app)
    assert not app.get("plotly_chart")


def test_a_job_is_known_by_what_its_scales_do(demo_model):
    from qroar_core.setting import default_setting

    setting = default_setting(demo_model)
    a, b = identity(4, 2, ((0, 15), (16, 31))), identity(4, 2, ((0, 15), (16, 31)))
    keys = [jobs.diagnose.key(demo_model, setting, s) for s in (None, a, b)]
    assert keys[1] == keys[2] != keys[0]
    b.g[3, 1, 1] = torch.nextafter(torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    assert jobs.diagnose.key(demo_model, setting, b) != keys[1]
    other = identity(4, 2, ((0, 14), (15, 31)))
    assert jobs.diagnose.key(demo_model, setting, other) != keys[1]
    assert jobs.diagnose.key(demo_model, setting, identity(4, 2, a.bands, "shared")) != keys[1]


def test_layers_that_differ_are_shown_apart(loaded_app, stages):
    """Two groups with curves of their own: one picture of both, and a choice that the pooled figures follow."""
    whole = planted.diagnosis()
    common = {
        "theta": 1e4,
        "interpolated": True,
        "reach": 64,
        "bands": whole.bands,
        "pairs": whole.pairs,
        "kernel": whole.kernel,
    }
    groups = [
        LayerGroupDiagnosis(
            name=name,
            layers=[i],
            window=window,
            pair_error=whole.pair_error,
            anisotropy=whole.anisotropy,
            noise=NoiseCurves(
                rms=rms, attention_kl=rms, rms_by_distance=rms, by_band_position=[rms, rms], by_band_distance=[rms, rms]
            ),
            **common,
        )
        for i, (name, window, rms) in enumerate((("full", None, [0.3, 0.8]), ("window", 16, [0.02, 0.03])))
    ]
    grouped = whole.model_copy(update={"groups": groups})
    stages.patch(stages.diagnose, "run", lambda *a, **kw: grouped)
    app = diagnosed(loaded_app)
    picker = next(s for s in app.selectbox if s.label == "Layers")
    assert picker.options == ["all layers", "full", "window"]
    assert lines(app, 0) == ["full", "full", "window", "window"]

    def shown():
        return next(d.value for d in app.dataframe if list(d.value.columns)[:2] == ["model", "position"])[
            "rms"
        ].tolist()

    assert shown() == whole.logit_noise.rms
    picker.select_index(2).run()
    assert shown() == [0.02, 0.03]
    assert len(app.get("plotly_chart")) == 9


def test_signal_beside_noise_and_what_each_layer_adds_are_on_the_page(loaded_app, stages):
    """Three pictures that a file from before the mending has no numbers for."""
    mended = D.model_copy(update={"hidden": found(18.0).hidden})
    stages.patch(stages.diagnose, "run", lambda *a, **kw: mended)
    app = diagnosed(loaded_app)
    assert len(app.get("plotly_chart")) == 8 + 3
    shown = " ".join(titles(app))
    for title in ("beside the attention scores? 7.5%", "drift further with position? Yes", "Layer 1 adds most, 75%"):
        assert title in shown
    assert "null: random errors of the same size" in lines(app, 0)
    assert "Counted on 64 tokens, 63 sampled query rows" in texts(app)
