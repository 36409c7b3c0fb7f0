"""Under tied pairs no page says a gain without what the tie itself costs, or that this is still to be measured."""

import pytest

from qroar_core.evaluation.result import TieFinding
from tests.helpers import planted, planted_comparison
from tests.pages.visitor import clicked, go, read, texts

pytestmark = pytest.mark.slow

COST = "tying the pairs alone costs +0.2562 nats [+0.2000, +0.3000] without a quantizer"
TIE = TieFinding(
    cost=0.2562, cost_low=0.2, cost_high=0.3, delta_nll=-0.2, ci_low=-0.3, ci_high=-0.1, recovered=-4.71, sentence=COST
)
UNMEASURED = "what the tie itself costs is measured by an evaluation, which there is none of under this setup yet"


def boxes(kind):
    return "\n".join(read(box.value) for box in kind)


@pytest.fixture
def tied(stages, loaded_app):
    stages.patch(stages.evaluate, "run", lambda *a, **k: planted.evaluation().model_copy(update={"tie": TIE}))
    loaded_app.text_input(key="tied pairs").set_value("8-9,10-15:0").run()
    return loaded_app


def test_tune_says_it_beside_the_verdict(tied):
    go(tied, "tune")
    clicked(tied, "Start the search")
    assert "Significant gain" in boxes(tied.success)
    assert UNMEASURED in boxes(tied.success)
    go(tied, "evaluate")
    clicked(tied, "Evaluate")
    go(tied, "tune")
    assert "Significant gain" not in boxes(tied.success)  # green no more: tie and scales together lose
    assert "Significant gain" in boxes(tied.info)
    assert f"It says: {COST}." in boxes(tied.info)


def test_remedies_says_it_among_the_findings(stages, tied):
    from qroar_core.remedies import run as compare

    stages.patch(compare, "run", lambda *a, **k: planted_comparison.comparison())
    go(tied, "remedies")
    clicked(tied, "Run the comparison")
    assert UNMEASURED in boxes(tied.success)


def test_a_comparison_from_the_model_without_a_tie_has_no_such_words(stages, tied):
    from qroar_core.remedies import run as compare

    made = planted_comparison.comparison()
    row = made.rows[2].model_copy(
        update={"method": "tied_maps", "tie_cost": 0.01, "tie_cost_low": 0.0, "tie_cost_high": 0.02}
    )
    made = made.model_copy(update={"untied": True, "rows": [*made.rows[:2], row, *made.rows[3:]]})
    stages.patch(compare, "run", lambda *a, **k: made)
    go(tied, "remedies")
    clicked(tied, "Run the comparison")
    assert "tie itself" not in boxes(tied.success)
    table = tied.dataframe[0].value
    assert list(table["tie costs"])[1:3] == ["", "+0.0100 [+0.0000, +0.0200]"]
    assert table["gap"][2].endswith("counted from the model without a tie")
    assert "list of frequencies" in table["change in the runtime"][2]


def test_without_a_tie_nothing_is_said_of_one(loaded_app):
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    assert "Significant gain" in boxes(loaded_app.success)
    assert "tie itself" not in texts(loaded_app)
