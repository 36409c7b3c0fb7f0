"""Remedies without a browser: empty, offered, asked, shown, failed, cancelled."""

import re
from dataclasses import replace

import pytest

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
    assert chosen.value == ["smooth_attention", "per_channel", "rotation"]
    assert chosen.options == ["SmoothAttention", "K per channel before RoPE", "Hadamard rotation of q and k"]
    assert "8 conditions on 16 windows of 1,024 tokens each; 3 searches for band scales." in texts(loaded_app)
    assert "Not run for this setup yet" in texts(loaded_app)
    loaded_app.checkbox(key="comparison band scales").set_value(False).run()
    assert "5 conditions on 16 windows of 1,024 tokens each; 0 searches" in texts(loaded_app)


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


@pytest.mark.parametrize(("angles", "counts"), [(False, (8, 3)), (True, (11, 6))])
def test_the_conditions_promised_are_those_the_comparison_makes(demo, angles, counts):
    """By hand: the reference, four remedies, and scales, then angles, on the three of them that scales can act on."""
    setting = default_setting(demo)
    setting = replace(setting, search=replace(setting.search, angles=angles))
    assert conditions(demo, setting, ComparisonSpec(search=setting.search)) == counts
