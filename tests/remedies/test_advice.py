"""What to serve, in every case of what was measured."""

import pytest

from qroar_core.remedies.advice import PLAIN, advice
from tests.helpers import planted, planted_comparison


def test_without_measurements_nothing_is_advised():
    assert advice(None, None, None) == ()


@pytest.mark.parametrize(
    ("chosen", "evaluation", "said", "served"),
    [
        ("identity", None, f": {PLAIN}", False),
        ("found", None, "held-out text has not confirmed them yet", True),
        ("found", planted.evaluation(significant=False), "Held-out text shows no significant gain", False),
        ("found", planted.evaluation(), "Serve the tuned scales: they recover +0.2500 nats a token on held-out", True),
        ("found", planted.over_documents(), "but over windows, not over documents", False),
    ],
)
def test_scales_are_advised_only_where_held_out_text_confirms_them(chosen, evaluation, said, served):
    (sentence,) = advice(planted.report(chosen), evaluation, None)
    assert said in sentence
    assert sentence.startswith("Serve the tuned scales") == served


def test_the_best_free_remedy_and_the_best_of_the_runtime_are_named_apart():
    (said,) = advice(None, None, planted_comparison.comparison())
    free, runtime = said.split("; ")
    assert free.startswith("Best of the remedies that are free at run time: band scales, 40%")
    assert runtime.startswith("that the runtime must do: KVQuant (K per channel before RoPE), 90%")


def test_where_the_best_is_free_nothing_is_said_of_the_runtime():
    (said,) = advice(None, None, planted_comparison.comparison({"plain": 0.5, "plain+": 0.1, "rotation": 0.3}))
    assert said.startswith("Best of the remedies that are free at run time: band scales, 80%")
    assert ";" not in said


def test_remedies_that_gain_nothing_are_said_to():
    nothing = planted_comparison.comparison({"plain": 0.5, "plain+": 0.5, "rotation": 0.5})
    assert advice(None, None, nothing) == ("Of the remedies compared none recovers anything significant",)
    only = planted_comparison.comparison({"plain": 0.5, "plain+": 0.5, "rotation": 0.3})
    assert advice(None, None, only)[0].startswith("No remedy that is free at run time recovers anything significant; ")
