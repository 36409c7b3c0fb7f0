"""Overview without a browser: empty tiles that start what fills them, and tiles with their answers."""

import pytest

from tests.helpers import planted, planted_comparison
from tests.helpers.planted_nulls import with_nulls
from tests.pages.visitor import button, clicked, go, texts, titles

pytestmark = pytest.mark.slow
QUESTIONS = [
    "What is lost?",
    "In which bands?",
    "In which layers?",
    "At which positions?",
    "What recovers how much?",
    "What to serve?",
]


@pytest.fixture
def planted_stages(stages):
    """Every stage answers with a planted result."""
    from qroar_core.remedies import run as compare

    stages.patch(stages.diagnose, "run", lambda *a, **kw: with_nulls())
    stages.patch(stages.evaluate, "run", lambda *a, **kw: planted.evaluation())
    stages.patch(compare, "run", lambda *a, **kw: planted_comparison.comparison())


def figures(app):
    return [chart.proto.alt.partition(".")[0] for chart in app.get("plotly_chart")]


def test_without_a_model_it_says_where_to_load_one(app):
    assert "No model is loaded yet" in texts(go(app, "overview"))


def test_every_tile_says_what_fills_it_and_links_to_its_page(loaded_app):
    go(loaded_app, "overview")
    assert titles(loaded_app) == QUESTIONS
    assert not figures(loaded_app)
    assert all(button(loaded_app, name) for name in ("Evaluate", "Diagnose", "Run the comparison", "Start the search"))
    said = texts(loaded_app)
    assert said.count("The diagnosis that **In which bands?** starts says this, too.") == 2
    assert "1,312 bytes a token" in said  # 4 layers x 4 KV heads x 16 channels: K in 4 bits and a scale, V in 16


def test_each_button_fills_its_tiles(loaded_app, planted_stages):
    go(loaded_app, "overview")
    assert len(figures(clicked(loaded_app, "Diagnose"))) == 3
    clicked(loaded_app, "Evaluate")
    assert figures(loaded_app)[0].startswith("+0")
    assert len(figures(loaded_app)) == 5  # what scales recover, before remedies are compared
    clicked(loaded_app, "Run the comparison")
    assert figures(loaded_app)[-1].startswith("KVQuant (K per channel before RoPE) recovers most")
    assert "Best of the remedies that are free at run time: band scales, 40%" in texts(loaded_app)
    assert not [b for b in loaded_app.button if b.label in ("Diagnose", "Evaluate", "Run the comparison")]


def test_a_search_here_is_the_one_of_tune(loaded_app):
    go(loaded_app, "overview")
    clicked(loaded_app, "Start the search")
    said = texts(loaded_app)
    assert "Serve the tuned scales, which the search keeps" in said or "The search keeps no scales" in said
    go(loaded_app, "tune")
    assert button(loaded_app, "Start the search").disabled


def test_nothing_quantized_is_said(loaded_app):
    go(loaded_app, "start")
    loaded_app.query_params.update({"quant": '{"k":null}'})
    from pages.state.choice import Choice
    from qroar_core.specs import QuantSpec

    loaded_app.session_state["choice"] = Choice(model="demo", quant=QuantSpec())
    assert "Nothing is quantized, so nothing is lost" in texts(go(loaded_app, "overview"))
