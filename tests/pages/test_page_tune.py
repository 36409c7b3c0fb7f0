"""The Tune page: bounds and scales typed or dragged, candidates compared, a search cancelled and resumed."""

import json
import re
from dataclasses import replace

import pytest
import torch
from streamlit.testing.v1 import AppTest

from pages.state.candidates import FOUND, HAND, MAD, SMOOTH, candidates, name_of
from qroar_core.errors import Cancelled
from qroar_core.progress import Step
from qroar_core.scale_search.run import SearchOutcome
from qroar_core.scale_search.runner import CANCELLED
from qroar_core.transforms.scales import Scales, identity
from tests.helpers import planted
from tests.pages.visitor import button, clicked, go, settled, texts

pytestmark = pytest.mark.slow

HALF = (0.5,) * 8


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However busy the machine, no row is left out."""
    monkeypatch.setattr("qroar_core.scale_search.manual_scales.BUDGET", 1e9)


@pytest.fixture
def tune(loaded_app):
    return go(loaded_app, "tune")


def editor(app):
    return app.data_editor[0]


def typed(app, **cells):
    """Edit one row of the table of bands: typed(app, row=2, low=-1.0)."""
    row = cells.pop("row")
    app.session_state[editor(app).key] = {"edited_rows": {row: cells}, "added_rows": [], "deleted_rows": []}
    app.run()
    assert not app.exception, [e.stack_trace for e in app.exception]
    return app


def pick(app, name):
    group = next(g for g in app.get("button_group") if g.label == "Scales in view")
    group.set_value([name] if isinstance(group.value, list) else name).run()
    return settled(app)


def with_probe(app):
    return clicked(app, "Try scales by hand")


def setting_and_probe(app, demo_model):
    from pages import jobs
    from pages.state.choice import from_address, setting_of

    setting = setting_of(from_address({k: v for k, v in app.query_params.items()}), demo_model)
    return setting, jobs.probe.result(demo_model, setting)


def errors(app):
    return {m.label: m.value for m in app.metric}


def test_typed_bounds_go_into_the_spec_and_the_address(tune, stages):
    before = editor(tune).value
    typed(tune, row=2, low=-1.25, high=0.5)
    spec = json.loads(tune.query_params["search"])
    wanted = [[round(lo, 2), round(hi, 2)] for lo, hi in before[["low", "high"]].itertuples(index=False)]
    wanted[2] = [-1.25, 0.5]
    assert spec["bounds"] == wanted
    assert "Bounds set by hand, the same in every layer" in texts(tune)
    seen = []
    real = stages.search.run
    stages.patch(stages.search, "run", lambda *a, **k: (seen.append(a[1].search), real(*a, **k))[1])
    clicked(tune, "Start the search")
    assert seen[0].bounds == tuple(map(tuple, wanted))
    button(tune, "Back to the diagnosed bounds").click().run()
    assert "bounds" not in tune.query_params["search"]
    assert editor(tune).value["low"][2] == before["low"][2]


def test_bounds_in_the_address_are_in_the_table_and_belong_to_their_bands(tune):
    other = AppTest.from_file(tune._script_path, default_timeout=30)
    bounds = [[-0.5, 1.5]] * 8
    other.query_params.update({"model": "demo", "search": json.dumps({"bounds": bounds})})
    other.run()
    go(other, "tune")
    assert editor(other).value[["low", "high"]].values.tolist() == bounds
    fewer = AppTest.from_file(tune._script_path, default_timeout=30)
    fewer.query_params.update({"model": "demo", "search": json.dumps({"bounds": bounds}), "bands": '{"count":4}'})
    fewer.run()
    go(fewer, "tune")
    assert len(editor(fewer).value) == 4
    assert "Bounds from the interpolation alone" in texts(fewer)


def test_bounds_without_0_are_refused_in_one_line_and_the_old_ones_stay(tune):
    typed(tune, row=1, low=0.5)
    assert "bounds of band 1 must hold 0" in tune.error[0].value
    assert "search" not in tune.query_params


def test_a_typed_and_a_dragged_scale_show_the_probes_own_error(tune, demo_model):
    with_probe(tune)
    assert errors(tune)["no scales"] == "1.0000"
    typed(tune, row=3, by_hand=1.0)
    _, probe = setting_and_probe(tune, demo_model)
    one = probe.value(probe.scales((0, 0, 0, 1.0, 0, 0, 0, 0)))
    assert errors(tune)[HAND] == f"{one:.4f}" != "1.0000"
    assert tune.slider(key="by hand 3").value == 1.0
    tune.slider(key="by hand 5").set_value(-0.75).run()
    two = probe.value(probe.scales((0, 0, 0, 1.0, 0, -0.75, 0, 0)))
    assert errors(tune)[HAND] == f"{two:.4f}" != f"{one:.4f}"
    assert editor(tune).value["by_hand"].tolist() == [0, 0, 0, 1.0, 0, -0.75, 0, 0]
    assert f"band 3 {one:.4f}, band 5" in texts(tune)
    assert (errors(tune)[SMOOTH], errors(tune)[MAD]) == tuple(
        f"{probe.value(s):.4f}" for s in (probe.smooth, probe.mad)
    )
    assert f"on 2 calibration windows of 1024 tokens, {probe.rows} query rows each" in texts(tune)
    go(tune, "export")
    go(tune, "tune")
    assert tune.slider(key="by hand 5").value == -0.75  # kept while on another page
    assert errors(tune)[HAND] == f"{two:.4f}"


def test_smooth_attention_is_one_click_without_a_search(tune, demo_model):
    pick(tune, SMOOTH)
    _, probe = setting_and_probe(tune, demo_model)
    table = next(d.value for d in tune.dataframe if "g" in d.value)
    assert table["g"].tolist() == pytest.approx(probe.smooth.g.flatten().tolist())
    assert errors(tune)[SMOOTH] == f"{probe.value(probe.smooth):.4f}"
    pick(tune, MAD)
    table = next(d.value for d in tune.dataframe if "g" in d.value)
    assert table["g"].tolist() == pytest.approx(probe.mad.g.flatten().tolist())


def test_apply_and_undo_of_the_one_in_view_are_exact_and_said(tune, demo_model):
    before = {n: p.detach().clone() for n, p in demo_model.model.named_parameters()}
    pick(tune, SMOOTH)
    assert "**as loaded**, no scales in" in texts(tune)
    clicked(tune, "Apply")
    _, probe = setting_and_probe(tune, demo_model)
    assert torch.equal(demo_model.applied.g, probe.smooth.g)
    assert "**SmoothAttention applied** to" in texts(tune)
    assert button(tune, "Apply").disabled
    typed(tune, row=0, by_hand=1.0)
    pick(tune, HAND)
    assert "**SmoothAttention applied** to" in texts(tune)
    clicked(tune, "Apply")
    assert "**by hand applied** to" in texts(tune)
    weight = demo_model.model.model.layers[0].self_attn.k_proj.weight
    assert torch.equal(weight[0], before["model.layers.0.self_attn.k_proj.weight"][0] / 2)
    clicked(tune, "Undo")
    assert "weights as loaded" in texts(tune)
    assert all(torch.equal(p, before[n]) for n, p in demo_model.model.named_parameters())


def test_the_gain_of_a_candidate_is_measured_once_and_says_on_what(tune, stages):
    from qroar_core.scale_search.gain import Decision

    asked = []

    def measured(loaded, setting, scales, texts, on_step):
        asked.append(scales)
        return Decision(
            gain=0.1,
            low=-0.05,
            high=0.25,
            windows=8,
            length=1024,
            targets=1023,
            text="8 development windows of 1024 tokens",
        )

    stages.patch(stages.search, "measure_gain", measured)
    pick(tune, SMOOTH)
    clicked(tune, "Measure the gain")
    assert (
        "**No significant gain: keep identity (+0.1000 nats [-0.0500, +0.2500] on 8 development windows of 1024 "
        "tokens, every token but the first scored).**"
    ) in texts(tune)
    assert not [b for b in tune.button if b.label == "Measure the gain"]
    assert len(asked) == 1


def cancelled_search(calls):
    """Cancelled with a best so far, unless it resumes from one; then it is done."""

    def run(loaded, setting, texts, diagnosis=None, on_step=None, resume=None):
        calls.append(resume)
        geo = loaded.geometry
        bands = tuple((4 * b, 4 * b + 3) for b in range(8))
        none = identity(geo.n_layers, geo.n_kv_heads, bands)
        found = replace(none, g=none.g * 2)
        report = planted.report()
        if resume is not None:
            return SearchOutcome(found, found, none, none, report)
        on_step(Step("search", 1, 4, "gradient step 1", report.history[1]))
        update = {"reason": CANCELLED, "chosen": "identity", "objective_found": 0.75}
        raise Cancelled("search", SearchOutcome(found, none, none, none, report.model_copy(update=update)))

    return run


def test_cancel_keeps_the_best_and_resume_goes_on_from_it(tune, stages, demo_model):
    calls = []
    stages.patch(stages.search, "run", cancelled_search(calls))
    clicked(tune, "Start the search")
    said = texts(tune)
    assert "cancelled. **Best so far kept, its gain not measured**: 5 candidates lower the cached objective" in said
    assert "objective by 25.0%" in said
    assert f"**Tuned scales.** Search: {CANCELLED}." in said
    assert not [b for b in tune.button if b.label == "Start the search"]
    assert [b for b in tune.button if b.label == "Measure the gain"]
    clicked(tune, "Apply")
    assert float(demo_model.applied.g.min()) == 2
    clicked(tune, "Resume")
    assert calls[0] is None
    assert calls[1].report.reason == CANCELLED
    assert tune.success[0].value.startswith("**Significant gain: +0.0166 nats")
    assert tune.success[0].value.endswith(".** The scales are kept.")
    assert button(tune, "Start the search").disabled  # this setting is searched


def test_start_over_forgets_the_best_so_far(tune, stages):
    calls = []
    stages.patch(stages.search, "run", cancelled_search(calls))
    clicked(tune, "Start the search")
    clicked(tune, "Start over")
    assert calls == [None, None]


def test_copy_to_by_hand_takes_the_mean_of_each_band(tune):
    clicked(tune, "Start the search")
    clicked(tune, "Copy to by hand")
    assert editor(tune).value["by_hand"].tolist() == [1.0] * 8  # the planted search doubles every band


def test_copy_to_by_hand_moves_sliders_that_are_on_the_page_already(tune, demo_model):
    with_probe(tune)
    tune.slider(key="by hand 2").set_value(0.5).run()
    pick(tune, SMOOTH)
    clicked(tune, "Copy to by hand")
    _, probe = setting_and_probe(tune, demo_model)
    mean = probe.smooth.g.log2().mean((0, 1))
    wanted = pytest.approx(mean.tolist(), abs=0.0251)  # half a step of the sliders
    assert mean.abs().max() > 0.05
    assert [tune.slider(key=f"by hand {band}").value for band in range(8)] == wanted
    assert editor(tune).value["by_hand"].tolist() == wanted
    assert json.loads(tune.query_params["hand"])["log2_g"] == wanted


def test_scales_by_hand_of_the_address_are_those_of_their_bands_and_mode_alone(tune, loaded_app):
    with_probe(tune)
    tune.slider(key="by hand 2").set_value(0.5).run()
    other = AppTest.from_file(loaded_app._script_path, default_timeout=30)
    other.query_params.update({name: tune.query_params[name] for name in tune.query_params})
    other.run()
    go(other, "tune")
    assert editor(other).value["by_hand"].tolist() == [0, 0, 0.5, 0, 0, 0, 0, 0]
    other.selectbox(key="mode").set_value("shared").run()
    assert editor(other).value["by_hand"].tolist() == [0] * 8


def test_a_button_pressed_in_the_run_that_takes_a_typed_number_counts(tune, stages):
    tune.number_input(key="steps").set_value(7)
    clicked(tune, "Start the search")
    assert json.loads(tune.query_params["search"])["steps"] == 7
    assert "**Significant gain: +0.0166 nats" in tune.success[0].value


def test_where_scales_cannot_act_it_is_said_first_and_the_search_is_secondary(loaded_app):
    other = AppTest.from_file(loaded_app._script_path, default_timeout=30)
    other.query_params.update({"model": "demo", "quant": '{"weights":{"bits":4}}'})
    other.run()
    go(other, "tune")
    assert "exact no-op" in other.warning[0].value
    assert button(other, "Start the search").proto.type == "secondary"
    assert "neither the K cache nor q and k are quantized" in texts(other)
    assert not [b for b in other.button if b.label == "Try scales by hand"]


def test_the_diagnosis_stands_beside_each_band(tune, stages):
    bands = [planted.band(i, 4 * i, 4 * i + 3, pressure=1.0, weighted=0.1) for i in range(8)]
    k, q, noise = ([[x + i / 10 for i in range(8)], *[[x] * 8] * 3] for x in (1.5, 1.0, 0.2))
    tails = {side: {"q": q, "k": k} for side in ("pre", "post")}
    full = planted.diagnosis()
    full = full.model_copy(
        update={
            "bands": bands,
            "tail_inflation": tails,
            "logit_noise": full.logit_noise.model_copy(update={"by_band": noise}),
        }
    )
    stages.patch(stages.diagnose, "run", lambda *a, **kw: full)
    clicked(tune, "Start the search")
    table = editor(tune).value
    for column, rows in (("tail_k", k), ("tail_q", q), ("noise", noise)):
        assert table[column].tolist() == pytest.approx([max(column) for column in zip(*rows, strict=True)])
    assert table["high"].tolist() > (-table["low"]).tolist()  # K's tails widen the side that shrinks it
    assert re.search("Bounds from the diagnosis", texts(tune))


def scales_of(value):
    return Scales("symmetric", "model", ((0, 3), (4, 7)), torch.full((1, 1, 2), value, dtype=torch.float64))


def test_candidates_are_named_in_order_and_recognized_by_their_values():
    found, smooth, mad, manual = (scales_of(x) for x in (2.0, 3.0, 4.0, 5.0))
    outcome = SearchOutcome(found, found, smooth, mad, planted.report())
    offered = candidates(outcome, manual)
    assert [(name, s) for name, (s, _) in offered.items()] == [
        (FOUND, found),
        (SMOOTH, smooth),
        (MAD, mad),
        (HAND, manual),
    ]
    assert "significant gain: +0.0166 nats" in offered[FOUND][1]
    assert candidates(None, None) == {}
    assert list(candidates(None, manual)) == [HAND]
    assert name_of(scales_of(3.0), offered) == SMOOTH
    assert name_of(scales_of(9.0), offered) == "other scales"
    assert name_of(None, offered) == ""


def test_a_disabled_option_says_why_and_what_would_read_it(tune):
    """The default is gradients under the cached objective."""
    why = "Disabled: the method gradient with the objective cached does not read it; "
    for key, able in {
        "sweeps": "the method coordinate or the objective full would read it.",
        "grid": "the method coordinate or the objective full would read it.",
        "trials": "the method optuna or the objective full would read it.",
        "polish_steps": "the objective kl would read it.",
    }.items():
        field = tune.number_input(key=key)
        assert (field.disabled, field.help.endswith(why + able)) == (True, True), field.help
    tune.selectbox(key="method").set_value("coordinate").run()
    assert not tune.number_input(key="sweeps").disabled
    assert "Disabled" not in tune.number_input(key="sweeps").help
    assert "the method coordinate with the objective cached does not read it" in tune.number_input(key="steps").help
