"""The Pressure page of a model whose layers differ: one picker, one line, and every figure of the group picked."""

from dataclasses import replace

import numpy as np
import pytest

from qroar_core.diagnostics.result import LayerGroupDiagnosis
from tests.helpers import planted
from tests.pages.visitor import clicked, texts, titles

pytestmark = pytest.mark.slow

FULL = "full attention, theta 10,000, 1 layer"
SLIDING = "window of 11 tokens, theta 100, 1 layer"
OMEGA = 1e4 ** (-np.arange(8) / 8)  # 16 channels


def run(app):
    app.run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


@pytest.fixture
def page(stages, byte_tokenizer, tokenizer_folder, request):
    """The page with a small model of `request.param` loaded in the demo's place."""
    import torch

    from tests.models.families_table import CASES, loaded_of

    case = replace(CASES[request.param], head_dim=16, rotary_dim=16)
    model = loaded_of(case, byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    stages.patch(stages.load, "run", lambda source, on_step=None, **kw: model)
    app = request.getfixturevalue("app")
    clicked(app, "Demo model")
    app.switch_page("pages/pressure.py")
    return run(app)


def picker(app):
    return next((s for s in app.selectbox if s.label == "Layers"), None)


def linear(app):
    numbers = next(d.value for d in app.dataframe if {"band", "method"} <= set(d.value.columns))
    return numbers[numbers["method"].str.startswith("linear")]["pressure_rad_per_efold"].to_numpy()


@pytest.mark.parametrize("page", ["gemma3"], indirect=True)
def test_layers_an_interpolation_leaves_alone_say_so(page, stages):
    assert picker(page).options == [FULL, SLIDING]
    assert f"This model's layers come in 2 groups: {FULL}; {SLIDING}. A window bounds" in texts(page)
    length, factor = (page.number_input(key=f"pressure {name}").value for name in ("length", "factor"))
    np.testing.assert_allclose(linear(page), OMEGA / factor * (length - 1) / 3, rtol=1e-5)
    assert factor == 2.0  # the checkpoint's own
    whole = planted.diagnosis()
    slow = [b.model_copy(update={"interpolation_pressure": 0.0}) for b in whole.bands]
    common = {"theta": 1e4, "pairs": whole.pairs, "kernel": whole.kernel}
    groups = [
        LayerGroupDiagnosis(
            name=FULL, layers=[0], bands=whole.bands, window=None, interpolated=True, reach=64, **common
        ),
        LayerGroupDiagnosis(name=SLIDING, layers=[1], bands=slow, window=11, interpolated=False, reach=11, **common),
    ]
    grouped = whole.model_copy(update={"groups": groups})
    stages.patch(stages.diagnose, "run", lambda *a, on_step=None, **kw: grouped)
    clicked(page, "Diagnose")
    assert "distances in 64 tokens" in texts(run(page))
    picker(page).select_index(1)
    run(page)
    assert "These layers keep the RoPE they ship with: no interpolation changes them." in page.info[0].value
    assert len(page.get("plotly_chart")) == 4
    assert "distances in 11 tokens" in texts(page)
    shown = next(d.value for d in page.dataframe if "interpolation_pressure" in d.value.columns)
    assert shown["interpolation_pressure"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("page", ["gemma2"], indirect=True)
def test_a_window_bounds_the_distances_of_its_layers(page):
    window = "window of 11 tokens, theta 10,000, 1 layer"
    assert picker(page).options == [FULL, window]
    page.number_input(key="pressure length").set_value(64)
    run(page)
    seen = [[m - n for m in range(64) for n in range(m + 1) if m - n < w] for w in (64, 11)]
    np.testing.assert_allclose(linear(page), OMEGA / 4 * np.mean(seen[0]), rtol=1e-5)
    picker(page).select_index(1)
    np.testing.assert_allclose(linear(run(page)), OMEGA / 4 * np.mean(seen[1]), rtol=1e-5)
    assert titles(page)


@pytest.mark.parametrize("page", ["smollm3"], indirect=True)
def test_with_one_group_that_turns_there_is_nothing_to_pick(page):
    assert picker(page) is None
    assert "full attention, not rotated, 2 layers. Layers that are not rotated have no bands." in texts(page)


@pytest.mark.parametrize("page", ["qwen2"], indirect=True)
def test_layers_alike_need_no_words(page):
    assert picker(page) is None
    assert "groups" not in texts(page)
