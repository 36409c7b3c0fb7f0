"""Tied pairs chosen on the Tune page: asked for, shown with cost and gain, taken into the setting."""

import pytest

from qroar_core.interpolations.tie import Tie
from qroar_core.scale_search import choose_ties
from qroar_core.scale_search.result_ties import TieChoice, TieCost, TiedGroup, TriedTie
from tests.pages.visitor import clicked, go, texts, titles

pytestmark = pytest.mark.slow

CHOICE = TieChoice(
    groups=[
        TiedGroup(first=22, last=25, turn=1.0, wavelength=9000.0, absmax_share=0.4, cost=0.02, left_without=0.6),
        TiedGroup(first=26, last=31, turn=0.9, wavelength=50000.0, absmax_share=0.1, cost=0.01, left_without=0.5),
    ],
    left_untied=0.7,
    tried=[
        TriedTie(tie="", cost=0.0, left=0.7),
        TriedTie(tie="22-25", cost=0.02, left=0.5),
        TriedTie(tie="22-25,26-31:0.9", cost=0.03, left=0.45),
    ],
    costs=[TieCost(length=1024, windows=4, nats=0.002, low=-0.001, high=0.005, allowed=0.01)],
    dropped=[],
    text="4 calibration windows of 1024 tokens, digest abc",
    seconds=3.0,
    forward_seconds=1.0,
)
TIES = (Tie(22, 25), Tie(26, 31, 0.9))


@pytest.fixture
def asked(monkeypatch):
    """What the choice was asked for, and what it gives."""
    settings, found = [], {"choice": CHOICE}

    def run(loaded, setting, texts, on_step):
        settings.append(setting)
        return found["choice"]

    monkeypatch.setattr(choose_ties, "run", run)
    return settings, found


def test_the_choice_is_shown_and_taken_into_the_setting(loaded_app, asked):
    app = go(loaded_app, "tune")
    clicked(app, "Choose tied pairs")
    assert [one.rope.tie for one in asked[0]] == [()]
    assert "Tied 22-25,26-31:0.9: it costs +0.0020 nats at 1,024 tokens" in texts(app)
    assert "Tying pairs 22–25, 26–31 leaves 45% of the rounding error before any search, 70% without a tie" in titles(
        app
    )
    table = next(d.value for d in app.dataframe if "recovered" in d.value)
    assert table["recovered"].tolist() == pytest.approx([0.15, 0.05])
    clicked(app, "Use these tied pairs")
    choice = app.session_state["choice"]
    assert choice.rope.tie == TIES
    assert (choice.search.angles, choice.search.maps) == (True, True)
    assert next(b for b in app.button if b.label == "Use these tied pairs").disabled
    assert "Tied 22-25,26-31:0.9" in texts(
        app
    )  # under the new setting too: the choice is about the model without a tie
    go(app, "start")
    assert app.text_input(key="tied pairs").value == "22-25,26-31:0.9"


def test_where_no_tie_pays_nothing_can_be_taken(loaded_app, asked):
    asked[1]["choice"] = CHOICE.model_copy(
        update={"groups": [], "costs": [], "tried": CHOICE.tried[:1], "dropped": ["22-25"]}
    )
    app = go(loaded_app, "tune")
    clicked(app, "Choose tied pairs")
    assert "No tie pays here; 22-25 cost more than is allowed." in texts(app)
    assert "Use these tied pairs" not in [b.label for b in app.button]


def test_without_a_quantized_k_cache_it_says_why_there_is_nothing_to_choose(loaded_app):
    loaded_app.selectbox(key="quantizer").select("nothing quantized").run()
    app = go(loaded_app, "tune")
    assert "Choose tied pairs" not in [b.label for b in app.button]
    assert "no query reads K rounded here; quantize the K cache" in texts(app)


def test_value_maps_are_searched_where_v_is_quantized(loaded_app):
    def toggle(app):
        return next(t for t in app.toggle if t.label == "Also mix V's channels")

    app = go(loaded_app, "tune")
    assert toggle(app).disabled
    assert "Disabled: value maps help a quantized V cache" in toggle(app).help
    go(app, "start").selectbox(key="quantizer").select("int4 K and V cache").run()
    toggle(go(app, "tune")).set_value(True).run()
    assert app.session_state["choice"].search.value_maps
