"""The interpolation on the Evidence page: asked for, shown with its verdict, taken into the setting and as a file."""

import pytest

from pages.views.rope_search import passes
from qroar_core.errors import Cancelled
from qroar_core.rope_search.result import RopeTrials
from qroar_core.specs import RopeSearchSpec, RopeSpec
from tests.helpers.planted_rope_search import UNDER, rope_search
from tests.pages.visitor import clicked, go, texts, titles

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(stages):
    """What the search was asked, and what it finds."""
    specs, found = [], {"result": rope_search()}

    def run(loaded, setting, spec, documents, on_step=None, resume=None):
        specs.append((setting.rope, spec))
        found["resumed"] = resume
        if "stop" in found:
            raise Cancelled("rope", found.pop("stop"))
        return found["result"]

    stages.patch("qroar_core.rope_search.run.run", run)
    return specs, found


def test_the_choice_is_shown_and_taken_into_the_setting(loaded_app, asked):
    app = go(loaded_app, "evidence")
    app.number_input(key="rope trials").set_value(12).run()
    assert (  # 12 interpolations and 3 exchanged ones in both conditions, and 3 choices in both at two lengths
        "At most 30 passes over 4 development windows of 1,024 tokens, then 6 over 16 held-out windows of 1,024 tokens "
        "and 6 over 16 held-out windows of 256 tokens." in texts(app)
    )
    clicked(app, "Choose the interpolation")
    ((rope, spec),) = asked[0]
    assert rope == RopeSpec("yarn", 4.0)
    assert (spec.trials, spec.length, spec.short_length, spec.heldout_windows) == (12, 1024, 256, 16)
    assert "Under the quantizer the search chooses another method: YaRN ×4 (beta_fast 24" in texts(app)
    assert "is worth +0.0500 nats" in app.success[-1].value
    assert "Choosing the interpolation under the quantizer is worth +0.0500 nats there" in titles(app)
    table = next(d.value for d in app.dataframe if "short_cost" in d.value)
    assert table["gain"].dropna().tolist() == pytest.approx([0.08, 0.06, 0.1, 0.15])
    assert "was not tried: planted away" in texts(app)
    go(app, "export")
    go(app, "evidence")  # the form is as it was left, and the result is still there
    assert app.number_input(key="rope trials").value == 12
    clicked(app, "Use this interpolation")
    assert app.session_state["choice"].rope == UNDER
    go(app, "start")
    assert app.number_input(key="attention factor").value == 1.2
    assert app.text_input(key="tied pairs").value == "30-31:0"
    assert app.session_state["choice"].rope == UNDER  # a visit changes nothing


def test_where_nothing_is_gained_nothing_is_offered(loaded_app, asked):
    asked[1]["result"] = rope_search(won=-0.2)
    app = clicked(go(loaded_app, "evidence"), "Choose the interpolation")
    assert "the setup's own is kept" in texts(app)
    assert "Use this interpolation" not in [b.label for b in app.button]


def test_a_cancelled_search_goes_on_with_what_it_measured(loaded_app, asked):
    studies = rope_search().studies[:1]
    asked[1]["stop"] = trials = RopeTrials(studies=studies)
    app = clicked(go(loaded_app, "evidence"), "Choose the interpolation")
    assert "cancelled. **8 tried interpolations kept.** Resume measures only what is left." in texts(app)
    assert "Choose the interpolation" not in [b.label for b in app.button]
    clicked(app, "Resume")
    assert asked[1]["resumed"] == trials
    assert asked[0][0] == asked[0][1]  # the same spec
    assert "is worth +0.0500 nats" in app.success[-1].value


def test_a_cancelled_search_can_start_over(loaded_app, asked):
    asked[1]["stop"] = RopeTrials(studies=rope_search().studies)
    app = clicked(go(loaded_app, "evidence"), "Choose the interpolation")
    clicked(app, "Start over")
    assert asked[1]["resumed"] is None
    assert len(asked[0]) == 2


def test_one_window_is_singular_and_every_pass_is_counted():
    """Known interpolations are tried however few are asked for: six methods and the setting's own."""
    spec = RopeSearchSpec(trials=2, windows=1, heldout_windows=2, short_length=4096, exchanged=0)
    assert passes(spec, 2048) == (
        "At most 14 passes over 1 development window of 2,048 tokens, then 6 over 2 held-out windows of 2,048 tokens "
        "and 6 over 2 held-out windows of 2,048 tokens."
    )


def test_without_a_factor_or_a_quantizer_it_says_what_to_choose(loaded_app):
    loaded_app.selectbox(key="rope").select("default").run()
    app = go(loaded_app, "evidence")
    assert "Choose a method and a factor to reach on the Start page" in texts(app)
    assert "Choose the interpolation" not in [b.label for b in app.button]
