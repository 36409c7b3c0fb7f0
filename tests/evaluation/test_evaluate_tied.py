"""Tied pairs in an evaluation: their cost is measured apart, and gains are counted from the model without a tie."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.contradictions import contradictions_of
from qroar_core.evaluation.findings import findings, tie
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evaluation.headline import headline
from qroar_core.evaluation.two_gains import loses_to_tie, under_a_tie
from qroar_core.interpolations.tie import Tie
from qroar_core.models.stream import Condition
from qroar_core.models.text import windows
from qroar_core.models.window_losses import measure
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, RopeSpec
from qroar_core.transforms.scales import Scales
from tests.evaluation.test_evaluate import INT4, TEXT
from tests.transforms.test_kinds import drawn_polish

PLAIN = RopeSpec("linear", 2.0)
TIED = RopeSpec("linear", 2.0, tie=(Tie(4, 5), Tie(6, 7, 0.0)))  # tiny has 8 pairs
SPEC = EvaluationSpec(lengths=(64,), windows=4)


@pytest.mark.parametrize("polished", [False, True])
def test_what_a_tie_costs_is_the_reference_without_it_measured_by_itself(tiny, polished):
    """Also where a polish changes the model under the tie: its gain counts from the model without either."""
    loaded = tiny()
    geo = loaded.geometry
    g = torch.full((geo.n_layers, geo.n_kv_heads, 1), 2.0, dtype=torch.float64)
    scales = Scales("symmetric", "kv_head", ((0, 7),), g, polish=drawn_polish(loaded, TIED) if polished else None)
    result = evaluate.run(loaded, Setting(TIED, INT4, evaluation=SPEC), scales, None, TEXT)
    ids = windows(loaded.tokenizer, TEXT, 64, 4, 0).ids
    nll = {
        (rope, quant): measure(loaded, Condition(rope, quant, s), ids, 63).per_window
        for rope, quant, s in (
            (TIED, Condition().quant, None),
            (PLAIN, Condition().quant, None),
            (PLAIN, INT4, None),
            (TIED, INT4, scales),
        )
    }
    tied, untied = (fmean(nll[rope, Condition().quant]) for rope in (TIED, PLAIN))
    before, after = fmean(nll[PLAIN, INT4]), fmean(nll[TIED, INT4])
    assert result.tie.cost == pytest.approx(tied - untied, abs=1e-6)
    assert result.tie.delta_nll == pytest.approx(before - after, abs=1e-6)
    assert not list(contradictions_of(result))
    assert {(row.model, row.scales) for row in result.rows} >= {("reference", "untied"), ("quantized", "untied")}
    edited = result.model_copy(update={"tie": result.tie.model_copy(update={"cost": result.tie.cost + 0.01})})
    assert any(found.startswith("tie.cost") for found in contradictions_of(edited))


def test_without_a_tie_nothing_is_said_of_one(tiny):
    result = evaluate.run(tiny(), Setting(PLAIN, INT4, evaluation=SPEC), None, None, TEXT)
    assert result.tie is None
    assert not any(row.scales == "untied" for row in result.rows)


def means(**changes):
    """Four windows, by hand: untied 2.0, quantization costs 0.4 there, the tie 0.1."""
    spread = [-0.01, 0.0, 0.004, 0.006]
    at = {
        "reference/untied": 2.0,
        "quantized/untied": 2.4,
        "reference/identity": 2.1,
        "quantized/identity": 2.45,
        "quantized/tuned": 2.2,
        "reference/tuned": 2.1,
    } | changes
    return {name: [level + s * (i + 1) / 3 for s in spread] for i, (name, level) in enumerate(at.items())}


def test_the_share_counts_the_tie():
    found = tie(means(), 0.95)
    assert found.cost == pytest.approx(0.1)
    assert found.delta_nll == pytest.approx(0.2)
    assert found.recovered == pytest.approx(0.5)
    assert "tying the pairs alone costs +0.1000 nats" in found.sentence
    assert "tie and scales together gain +0.2000 nats" in found.sentence
    assert "50% of what quantization costs there" in found.sentence


def test_a_tie_that_costs_more_than_is_won_is_a_loss():
    found = tie(means(**{"quantized/tuned": 2.5}), 0.95)
    assert "tie and scales together lose +0.1000 nats" in found.sentence
    assert "%" not in found.sentence


def test_a_gain_that_does_not_win_the_tie_back_is_never_said_without_it(tiny):
    """A tie that costs 1 nat and more, scales that win 0.2 of it back: significant under the tie, a loss beside."""
    loaded = tiny()
    geo = loaded.geometry
    scales = Scales(
        "symmetric", "kv_head", ((0, 7),), torch.full((geo.n_layers, geo.n_kv_heads, 1), 2.0, dtype=torch.float64)
    )
    measured = evaluate.run(loaded, Setting(TIED, INT4, evaluation=SPEC), scales, None, TEXT)
    tied = {"reference/identity": 3.0, "quantized/identity": 3.4, "quantized/tuned": 3.2, "reference/tuned": 3.0}
    nll = means(**tied)
    result = measured.model_copy(update=findings(nll, 64, 0.95))
    assert result.gain.significant
    assert result.caveat == result.tie.sentence
    assert "tie and scales together lose +0.8000 nats" in result.caveat
    assert result.finding == f"{result.sentence}. But {result.tie.sentence}"
    assert result.holds_only == "under the tie, not beside the model without it"
    won = measured.model_copy(update=findings(means(), 64, 0.95))
    assert won.gain.significant
    assert won.caveat == won.holds_only == ""
    assert won.finding == f"{won.sentence}; {won.tie.sentence}"


def test_the_headline_share_is_counted_from_the_model_without_a_tie(tiny):
    loaded = tiny()
    geo = loaded.geometry
    g = torch.full((geo.n_layers, geo.n_kv_heads, 1), 2.0, dtype=torch.float64)
    result = evaluate.run(
        loaded, Setting(TIED, INT4, evaluation=SPEC), Scales("symmetric", "kv_head", ((0, 7),), g), None, TEXT
    )
    share = tuned_share(result)
    assert (share is None) == (result.tie.recovered is None)
    if share is not None:
        assert share.mean == result.tie.recovered


def test_the_tile_says_what_the_share_is_counted_from_and_shows_its_perplexities(tiny):
    """Tiles of 22.7, 24.1 and 23.7 alone say +25 %, beside a share of -471 % counted from a model that is not shown."""
    measured = evaluate.run(tiny(), Setting(TIED, INT4, evaluation=SPEC), None, None, TEXT)
    nll = means(**{"quantized/tuned": 2.5})
    named = {f"64/{name}": values for name, values in nll.items()}
    result = measured.model_copy(update=findings(nll, 64, 0.95) | {"window_nll": named})
    *tiles, share = headline(result)
    assert [tile.name for tile in tiles][:2] == ["PPL, reference, no pairs tied", "PPL, quantized, no pairs tied"]
    assert (share.name, share.value) == ("NLL gap recovered, with the tie", "-25%")  # (2.4 - 2.5) / (2.4 - 2.0)
    assert share.beside.endswith("]; counted from the model without a tie")
    assert "what the tie itself costs counts against it" in share.meaning
    assert tuned_share(result).words.endswith(", counted from the model without a tie")
    assert "model without a tie" in under_a_tie(TIED.tie, result)
    assert loses_to_tie(result)
    assert not loses_to_tie(measured)
    assert under_a_tie((), result) == ""
