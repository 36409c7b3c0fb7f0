"""Maps on the Tune page: greyed out without a tie, searched and drawn with one, and in no other page's way."""

import math

import pytest

from pages.forms.bands import _range
from tests.pages.visitor import clicked, go, texts, titles

pytestmark = pytest.mark.slow

LABEL = "Also mix channels that turn alike"


def toggle(app, label=LABEL):
    return next(t for t in app.toggle if t.label == label)


def whole(app):
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def test_without_a_tie_the_switch_is_greyed_and_says_what_to_do(loaded_app):
    go(loaded_app, "tune")
    assert toggle(loaded_app).disabled
    assert "every RoPE pair turns at a frequency of its own" in toggle(loaded_app).help
    assert "tie neighbouring slow pairs" in toggle(loaded_app).help
    assert "as Tied pairs on the Start page" in toggle(loaded_app).help


def test_with_a_tie_it_is_the_searchs_and_every_page_opens(loaded_app):
    loaded_app.text_input(key="tied pairs").set_value("22-25,26-31:0").run()
    go(loaded_app, "tune")
    assert toggle(loaded_app).disabled  # angles come first
    toggle(loaded_app, "Also search pair angles").set_value(True).run()
    whole(toggle(loaded_app).set_value(True).run())
    assert loaded_app.session_state["choice"].search.maps
    whole(clicked(loaded_app, "Start the search"))
    assert any("the maps spread one channel" in title for title in titles(loaded_app))  # Tune itself draws them
    for page in ("evaluate", "remedies", "evidence", "retrieval", "export", "noise", "runs", "tune", "start"):
        go(loaded_app, page)
        whole(loaded_app)
    whole(loaded_app.text_input(key="tied pairs").set_value("").run())
    go(loaded_app, "tune")
    assert toggle(whole(loaded_app)).disabled
    assert "YaRN ×4" in texts(loaded_app)


def test_without_angles_the_switch_says_why_it_is_greyed(loaded_app):
    loaded_app.text_input(key="tied pairs").set_value("22-25,26-31:0").run()
    go(loaded_app, "tune")
    assert "Disabled: without pair angles there are no channel maps; switch on “Also search pair angles”." in (
        toggle(loaded_app).help
    )
    toggle(loaded_app, "Also search pair angles").set_value(True).run()
    assert "Disabled" not in toggle(loaded_app).help


OFFSET = "Also take a constant off K"


def test_a_constant_is_taken_off_k_where_a_pair_stands_still(loaded_app):
    go(loaded_app, "tune")
    assert toggle(loaded_app, OFFSET).disabled
    assert "Disabled: every channel of K turns" in toggle(loaded_app, OFFSET).help
    go(loaded_app, "start")
    loaded_app.text_input(key="tied pairs").set_value("22-25,26-31:0").run()
    go(loaded_app, "tune")
    whole(toggle(loaded_app, OFFSET).set_value(True).run())
    assert loaded_app.session_state["choice"].search.kinds == ("k_offset",)
    whole(clicked(loaded_app, "Start the search"))
    assert any("KV heads have a constant taken off K" in title for title in titles(loaded_app))
    whole(loaded_app.selectbox(key="goal").set_value("kl").run())
    assert toggle(loaded_app, OFFSET).disabled
    assert "under the objective" in toggle(loaded_app, OFFSET).help


def test_a_band_whose_pairs_all_stand_still_has_one_wavelength():
    assert [_range(math.inf, math.inf), _range(25_000.0, 60_000.0)] == ["∞", "25k–60k"]
