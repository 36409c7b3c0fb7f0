"""The share of the gap on the command line: with its interval, and named for what it is where it may be zero."""

import json

import pytest

from qroar_core.cli import tables
from tests.helpers import planted, planted_comparison


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (planted.evaluation(), "50% [40%, 60%]"),
        (planted.scattered(), "not significant (45% [-54%, 144%])"),
    ],
)
def test_an_evaluation_shows_the_share_with_its_interval(capsys, result, words):
    tables.evaluation(result, False)
    assert f"NLL gap recovered: {words}\n" in capsys.readouterr().out


def test_json_holds_the_interval_of_the_share(capsys):
    tables.evaluation(planted.scattered(), True)
    found = json.loads(capsys.readouterr().out)
    assert found["gap_recovered"] == 0.45
    assert (found["gap_recovered_low"], found["gap_recovered_high"]) == pytest.approx((-0.543655, 1.443655), rel=1e-5)
    tables.evaluation(planted.scattered().model_copy(update={"gain": None}), True)
    found = json.loads(capsys.readouterr().out)
    assert (found["gap_recovered_low"], found["gap_recovered_high"]) == (None, None)


def test_a_comparison_shows_which_shares_may_be_zero(capsys):
    tables.comparison(planted_comparison.comparison({"plain": 0.5, "rotation": 0.499}), False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Hadamard rotation of q and k  " in line]
    assert "not significant (0% [-" in line
