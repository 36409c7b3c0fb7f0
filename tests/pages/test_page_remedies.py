"""Remedies without a browser: empty, offered, asked, shown, failed, cancelled."""

import json
import re
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from pages.forms.comparison import conditions
from qroar_core.setting import default_setting
from qroar_core.specs import ComparisonSpec
from tests.helpers import planted_comparison
from tests.pages.visitor import clicked, go, read, texts

pytestmark = pytest.mark.slow


@pytest.fixture
def asks(stages):
    """The stage answers with a planted result and notes what it was asked."""
    from qroar_core.remedies import run as compare

    asked = []

    def fake(loaded, setting, spec, texts, on_step=None):
        asked.append((setting.rope, setting.quant, spec, sorted(texts)))
        return planted_comparison.comparison()

    stages.patch(compare, "run", fake)
    return asked


def page(app):
    return go(app, "remedies")


def test_it_offers_what_applies_and_says_what_a_click_costs(loaded_app):
    page(loaded_app)
    chosen = loaded_app.multiselect(key="comparison methods")
    assert chosen.value == [
        "pair_scales",
        "tied_maps",
        "smooth_attention",
        "clipped_ranges",
        "kvquant",
        "kivi",
        "protected_layers",
        "first_last_layers",
        "rotation",
    ]
    assert chosen.options == [
        "pair scales and angles",
        "tied maps",
        "SmoothAttention",
        "clipped ranges",
        "KVQuant (K per channel before RoPE)",
        "KIVI",
        "protected layers",
        "first and last layers protected",
        "Hadamard rotation of q and k",
    ]
    assert "17 conditions on 16 windows of 1,024 tokens each; 5 searches for scales." in texts(loaded_app)
    assert "Not run for this setup yet" in texts(loaded_app)
    loaded_app.checkbox(key="comparison band scales").set_value(False).run()
    assert "14 conditions on 16 windows of 1,024 tokens each; 2 searches" in texts(loaded_app)


def test_a_click_measures_and_shows_sentences_table_and_figures(loaded_app, asks):
    page(loaded_app)
    loaded_app.multiselect(key="comparison methods").set_value(["rotation"]).run()
    loaded_app.number_input(key="comparison windows").set_value(6).run()
    clicked(loaded_app, "Run the comparison")
    ((rope, quant, spec, splits),) = asks
    assert (rope.method, quant.k.bits, splits) == ("yarn", 4, ["calibration", "development", "heldout"])
    assert (spec.methods, spec.windows, spec.band_scales, spec.search.length) == (("rotation",), 6, True, 1024)
    said = read(loaded_app.success[0].value)
    for sentence in planted_comparison.comparison().sentences:
        assert sentence in said
    assert "On held-out text all 1,023 targets of each window scored; intervals over windows" in texts(loaded_app)
    table = loaded_app.dataframe[0].value
    assert list(table["remedy"])[:2] == ["no remedy", "band scales"]
    assert table["band scales add"][4] == "exact no-op"
    assert re.fullmatch(r"40% \[\d+%, \d+%\]", table["gap"][1])
    assert table["gap"][0] == ""
    asks_for = loaded_app.table[0].value
    assert list(table["cost at run time"])[:3] == ["none"] * 3
    assert list(table["change in the runtime"])[-1] == asks_for["change in the runtime"].iloc[-1] != ""
    assert "tie costs" not in table
    assert list(asks_for.index) == ["band scales", "SmoothAttention", *table["remedy"][4:6]]
    assert list(asks_for["cost at run time"])[:2] == ["none", "none"]
    assert "online" in asks_for["cost at run time"].iloc[-1]
    assert len(loaded_app.get("plotly_chart")) == 2
    go(loaded_app, "export")
    page(loaded_app)  # the form is as it was left, and the result is still there
    assert loaded_app.multiselect(key="comparison methods").value == ["rotation"]
    assert len(loaded_app.get("plotly_chart")) == 2


def test_all_that_apply_is_said_as_none(loaded_app, asks):
    page(loaded_app)
    clicked(loaded_app, "Run the comparison")
    assert asks[0][2].methods == ()


def test_weights_bring_a_length_of_gptq_s_text(app, asks):
    """As long as its authors' where nobody changes it: then the spec has none."""
    visitor = AppTest.from_file(app._script_path, default_timeout=30)
    weights = json.dumps({"weights": {"bits": 4}, "k": {"bits": 4}})
    visitor.query_params.update({"model": "demo", "quant": weights})
    visitor.run()
    if any(button.label == "Load demo" for button in visitor.button):
        clicked(visitor, "Load demo")
    page(visitor)
    assert visitor.number_input(key="comparison tokens").value == 128 * 2048
    clicked(visitor, "Run the comparison")
    visitor.number_input(key="comparison tokens").set_value(4096).run()
    clicked(visitor, "Run the comparison")
    assert [one[2].calibration_tokens for one in asks] == [None, 4096]


@pytest.mark.parametrize(("angles", "counts"), [(False, (17, 5)), (True, (20, 8))])
def test_the_conditions_promised_are_those_the_comparison_makes(demo, angles, counts):
    """By hand: the reference, ten remedies, scales, then angles, on the three of them that take scales and gain by
    them, a rotation on each of the two with scales of their own, which are a search each, and a tie unquantized."""
    setting = default_setting(demo)
    setting = replace(setting, search=replace(setting.search, angles=angles))
    assert conditions(demo, setting, ComparisonSpec(search=setting.search)) == counts


def test_the_budget_of_kept_layers_is_asked_in_bytes_a_token(loaded_app, asks):
    page(loaded_app)
    budget = loaded_app.number_input(key="comparison cache")
    # K int4 with a float32 scale a token and head, V in 16 bits: the demo has 4 layers, 2 of them kept by default
    heads, width = 2, 64
    assert (budget.min, budget.max) == (4 * heads * (width / 2 + 4 + 2 * width), 4 * heads * 4 * width)
    budget.set_value(int(budget.max)).run()
    clicked(loaded_app, "Run the comparison")
    assert asks[-1][2].cache_bytes == budget.max


def test_layers_kept_on_the_start_page_are_part_of_the_setup(loaded_app, asks):
    go(loaded_app, "start")
    loaded_app.multiselect(key="kept layers").set_value([0, 3]).run()
    page(loaded_app)
    assert "protected_layers" not in loaded_app.multiselect(key="comparison methods").value
    clicked(loaded_app, "Run the comparison")
    ((_, quant, _, _),) = asks
    assert quant.keep_layers == (0, 3)
