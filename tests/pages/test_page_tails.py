"""The Tails page: maps to pick from, menus in step with them, the two distributions."""

from types import SimpleNamespace

import pytest

from pages.state import selection
from tests.helpers import planted
from tests.pages.visitor import clicked, go, texts, titles

pytestmark = pytest.mark.slow

MENUS = ("tail tensor", "tail layer", "tail head", "tail band")


def diagnosed(app):
    go(app, "tails")
    return clicked(app, "Diagnose")


def menus(app):
    return tuple(app.session_state[menu] for menu in MENUS)


def test_it_opens_on_the_cell_with_the_largest_ratio(loaded_app):
    app = diagnosed(loaded_app)
    assert menus(app) == ("k/post", 1, 1, 1)
    assert titles(app) == [
        "K after RoPE grows most with length: 2.00 × short context (layer 1, band 1)",
        "K after RoPE, layer 1, head 1, band 1: tail 2.00 × short context [1.70, 2.40]",
        "How large do keys get by position? (layer 1, up to 1.25 bits lost)",
        "Range of keys by position (layer 1, band 1)",
    ]
    assert len(app.get("plotly_chart")) == 4


def test_menus_pick_another_cell_and_are_remembered_when_the_page_is_left(loaded_app):
    app = diagnosed(loaded_app)
    app.selectbox(key="tail layer").select(0).run()
    app.selectbox(key="tail head").select(0).run()
    app.segmented_control(key="tail tensor").set_value("q/pre").run()
    assert titles(app)[1].startswith("Q before RoPE, layer 0, head 0, band 1: tail 1.50 × short context [1.30")
    assert "(layer 0, up to 1.25 bits lost)" in titles(app)[2]
    go(app, "noise")
    go(app, "tails")
    assert menus(app) == ("q/pre", 0, 0, 1)
    assert not app.exception


def test_another_result_starts_on_its_own_worst_cell(loaded_app, stages):
    app = diagnosed(loaded_app)
    app.selectbox(key="tail layer").select(0).run()
    first = planted.diagnosis()
    small = first.model_copy(
        update={
            "tails": {
                s: t.model_copy(update={n: getattr(t, n)[:1] for n in ("ratio", "low", "high", "long", "short")})
                for s, t in first.tails.items()
            },
            "tail_inflation": {s: {x: m[:1] for x, m in both.items()} for s, both in first.tail_inflation.items()},
            "dilation": first.dilation.model_copy(update={"absmax": first.dilation.absmax[:1]}),
        }
    )
    app.selectbox(key="tail layer").select(1).run()
    stages.patch(stages.diagnose, "run", lambda *a, **kw: small)
    app.number_input(key="diagnosis windows").set_value(5).run()  # another diagnosis
    clicked(app, "Diagnose")
    assert menus(app) == ("k/post", 0, 0, 1)  # layer 1, picked before, is not there any more
    assert app.selectbox(key="tail layer").options == ["0"]


def test_a_click_writes_into_the_menus_and_an_empty_selection_does_not(monkeypatch):
    class State(dict):
        __getattr__ = dict.__getitem__

    chart = SimpleNamespace(selection=SimpleNamespace(points=[{"customdata": ["q/post", 3, 2]}]))
    state = State(tails=chart, layer=0)
    monkeypatch.setattr(selection.st, "session_state", state)
    take = selection.on_click("tails", lambda data: {"tensor": data[0], "layer": data[1]})
    take()
    assert (state["tensor"], state["layer"]) == ("q/post", 3)
    chart.selection.points = []
    state["layer"] = 5
    take()
    assert state["layer"] == 5


def test_the_empty_state_names_what_diagnose_does(loaded_app):
    go(loaded_app, "tails")
    assert "**Diagnose** reads one long context" in texts(loaded_app)
    assert not loaded_app.get("plotly_chart")
