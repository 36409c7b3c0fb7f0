"""The findings of an evaluation against scipy's paired t-test, and their sentences in known cases."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from qroar_core.evaluation.findings import findings

CONFIDENCE = 0.9


def interval(before, after):
    found = ttest_rel(before, after).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


@pytest.fixture
def nll():
    """Seven windows that differ far more from each other than the conditions do."""
    draw = np.random.default_rng(5)
    base = draw.normal(3.0, 0.6, 7)

    def near(shift, spread=0.01):
        return (base + shift + draw.normal(0, spread, 7)).tolist()

    return {
        "reference/identity": near(0.0),
        "reference/tuned": near(-0.002),
        "quantized/identity": near(0.3),
        "quantized/tuned": near(0.12),
        "quantized/smooth_attention": near(0.2),
        "quantized/rotation": near(0.1),
        "quantized/rotation_tuned": near(0.04),
    }


def test_every_interval_is_scipys_paired_t(nll):
    found = findings(nll, 1024, CONFIDENCE)
    gain, cause, rotation = found["gain"], found["attribution"], found["rotation"]
    before, tuned = nll["quantized/identity"], nll["quantized/tuned"]
    assert (gain.ci_low, gain.ci_high) == pytest.approx(interval(before, tuned))
    assert gain.delta_nll == pytest.approx(np.mean(before) - np.mean(tuned))
    retuned = interval(nll["reference/identity"], nll["reference/tuned"])
    assert (cause.retuning_ci_low, cause.retuning_ci_high) == pytest.approx(retuned)
    repair = interval(np.subtract(before, tuned), np.subtract(nll["reference/identity"], nll["reference/tuned"]))
    assert (cause.repair_ci_low, cause.repair_ci_high) == pytest.approx(repair)
    assert cause.quantization_repair + cause.retuning == pytest.approx(gain.delta_nll)
    assert (rotation.ci_low, rotation.ci_high) == pytest.approx(interval(before, nll["quantized/rotation"]))
    on_top = interval(nll["quantized/rotation"], nll["quantized/rotation_tuned"])
    assert (rotation.added_ci_low, rotation.added_ci_high) == pytest.approx(on_top)
    lost = np.mean(before) - np.mean(nll["reference/identity"])
    assert found["gap_recovered"] == pytest.approx(gain.delta_nll / lost)
    assert rotation.recovered == pytest.approx((np.mean(before) - np.mean(nll["quantized/rotation"])) / lost)


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.05, "scales searched under it add +0.0500 nats [+0."),
        (0.0, "add nothing significant (+0.0"),
        (-0.05, "scales searched under it cost +0.0500 nats [+0."),
    ],
)
def test_what_scales_add_on_top_of_the_rotation_is_said_plainly(nll, shift, words):
    wobble = [0.001 * (-1) ** i for i in range(6)] + [0.0]  # mean 0, so the shift is the mean
    nll["quantized/rotation_tuned"] = [a - shift + b for a, b in zip(nll["quantized/rotation"], wobble, strict=True)]
    sentence = findings(nll, 1024, CONFIDENCE)["rotation"].sentence
    assert words in sentence
    assert sentence.startswith("a Hadamard rotation recovers +0.")
    assert "% of what quantization lost; scales" in sentence


@pytest.mark.parametrize(("won", "said"), [(0.00003, False), (0.00007, True)])
def test_an_interval_that_shows_as_zero_is_no_gain(nll, won, said):
    """Of degenerate text: every window wins the same nothing, so the interval is a point beside zero."""
    before = nll["quantized/identity"]
    for which in ("tuned", "rotation"):
        nll[f"quantized/{which}"] = [a - won for a in before]
    nll["quantized/rotation_tuned"] = [a - 2 * won for a in before]
    documents = ["a", "a", "b", "b", "c", "c", "c"]
    found = findings(nll, 1024, CONFIDENCE, documents)
    assert found["gain"].ci_low > 0
    assert found["gain"].significant is said
    assert found["gain_by_document"].significant is said
    if said:
        assert found["sentence"].startswith("significant gain: +0.0001 nats [+0.0001, +0.0001]")
        assert found["rotation"].sentence.startswith("a Hadamard rotation recovers +0.0001 nats [+0.0001, +0.0001]")
        assert "searched under it add +0.0001" in found["rotation"].sentence
        nll["quantized/rotation"] = [a + won for a in before]
        assert findings(nll, 1024, CONFIDENCE)["rotation"].sentence.startswith("a Hadamard rotation costs +0.0001")
        return
    assert found["sentence"].startswith("no significant gain: keep identity (+0.0000 nats [+0.0000, +0.0000]")
    assert "gain is not significant: +0.0000" in found["gain_by_document"].sentence
    assert found["rotation"].sentence == (
        "a Hadamard rotation changes nothing significant (+0.0000 nats [+0.0000, +0.0000] at 1024 tokens); "
        "scales searched under it add nothing significant (+0.0000 nats [+0.0000, +0.0000])"
    )


def test_a_rotation_that_does_nothing_is_called_that(nll):
    nll["quantized/rotation"] = [a + 0.01 * (-1) ** i for i, a in enumerate(nll["quantized/identity"])]
    del nll["quantized/rotation_tuned"]
    found = findings(nll, 1024, CONFIDENCE)["rotation"]
    assert found.sentence.startswith("a Hadamard rotation changes nothing significant (")
    assert found.added is None


def test_a_rotation_that_harms_is_called_a_cost(nll):
    nll["quantized/rotation"] = [a + 0.05 + 0.001 * (-1) ** i for i, a in enumerate(nll["quantized/identity"])]
    found = findings(nll, 1024, CONFIDENCE)["rotation"]
    assert found.sentence.startswith("a Hadamard rotation costs +0.0501 nats [+0.0494, +0.0509] at 1024 tokens; ")
    assert found.delta_nll < 0


def test_nothing_quantized_says_so():
    found = findings({"reference/identity": [1.0, 2.0]}, 64, 0.95)
    assert found == {
        "gain": None,
        "attribution": None,
        "gap_recovered": None,
        "tie": None,
        "sentence": "nothing is quantized",
    }
