"""After the search: the guard's halving and the decision's interval on known numbers, and which text each reads."""

import pytest
import torch

from qroar_core.models.capture import capture
from qroar_core.scale_search import problem, validation
from qroar_core.scale_search.guard import WindowScorer, guarded
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.scale_search.searching import INT4, TEXTS, asked, plant, run


def known(monkeypatch, **nll):
    """WindowScorer.nll gives out these: guard(share of the way), gain_identity, gain_tuned; keeps what was asked."""
    calls = []

    def fake(self, ids, scales, what):
        calls.append((what, tuple(ids.shape), scales))
        return nll[what.replace(": ", "_")](scales)

    monkeypatch.setattr(WindowScorer, "nll", fake)
    return calls


def linear_cost(found, per_octave):
    """NLL of four windows rising with the largest |log2 g|, plus window to window spread that cancels."""
    spread = [3.0, 5.0, 1.0, 4.0]
    return lambda scales: [x + per_octave * float(scales.g.log2().abs().max()) for x in spread] if scales else spread


ONE_BAND = Scales("symmetric", "kv_head", ((0, 1), (2, 3)), torch.tensor([[[1.0, 16.0]]], dtype=torch.float64))
GUARDED = {  # cost per octave of 4 octaves, allowed 0.1 -> octaves left, sentence
    0.02: (4.0, "costs +0.0800 nats at 16 tokens, allowed 0.1"),
    -0.5: (4.0, "costs -2.0000 nats at 16 tokens, allowed 0.1"),
    0.04: (2.0, "halved toward identity, costs +0.0800 nats at 16 tokens, allowed 0.1"),
    0.08: (1.0, "quartered toward identity, costs +0.0800 nats at 16 tokens, allowed 0.1"),
    0.2: (None, "costs +0.2000 nats at 16 tokens even quartered, allowed 0.1: rejected"),
}


@pytest.mark.parametrize("per_octave", GUARDED)
def test_guard_halves_until_it_is_cheap_enough(monkeypatch, per_octave):
    octaves, sentence = GUARDED[per_octave]
    cost = linear_cost(ONE_BAND, per_octave)
    known(monkeypatch, guard_identity=cost, guard_tuned=cost)
    kept, said = guarded(
        WindowScorer(None, RopeSpec(), INT4, None), ONE_BAND, torch.zeros(4, 16, dtype=torch.int64), 0.1
    )
    assert said == sentence
    if octaves is None:
        assert kept is None
    else:
        assert kept.g.log2().tolist() == [[[0.0, octaves]]]
        assert (kept.mode, kept.granularity, kept.bands) == (ONE_BAND.mode, ONE_BAND.granularity, ONE_BAND.bands)


GAINS = {  # NLL before minus after on 8 windows -> kept; t(0.975, 7) = 2.3646
    "clear gain": ([0.2, 0.3, 0.2, 0.3, 0.2, 0.3, 0.2, 0.3], "+0.2500 nats [+0.2053, +0.2947]", True),
    "tiny but steady": ([0.001] * 8, "+0.0010 nats [+0.0010, +0.0010]", True),
    "large but unsteady": ([2.0, -1.0, 2.0, -1.0, 2.0, -1.0, 2.0, -1.0], "+0.5000 nats [-0.8406, +1.8406]", False),
    "clear loss": ([-0.2, -0.3, -0.2, -0.3, -0.2, -0.3, -0.2, -0.3], "-0.2500 nats [-0.2947, -0.2053]", False),
    "nothing": ([0.0] * 8, "+0.0000 nats [+0.0000, +0.0000]", False),
}


@pytest.mark.parametrize("name", GAINS)
def test_found_is_kept_only_where_development_text_shows_a_gain(monkeypatch, tiny, name):
    gains, measured, kept = GAINS[name]
    spread = [3.0, 5.0, 1.0, 4.0, 2.0, 6.0, 3.5, 4.5]
    calls = known(
        monkeypatch,
        guard_identity=lambda s: spread[:4],
        guard_tuned=lambda s: spread[:4],
        gain_identity=lambda s: spread,
        gain_tuned=lambda s: [x - d for x, d in zip(spread, gains, strict=True)],
    )
    out = run(plant(tiny(head_dim=32), [(1, 0)]), asked())
    assert not out.found.is_identity
    assert (out.kept is out.found) == kept
    assert out.kept.is_identity != kept
    assert out.report.chosen == ("found" if kept else "identity")
    assert f"{measured} on 8 development windows of 64 tokens, every token but the first scored" in out.report.reason
    said = out.report.decision
    assert (said.windows, said.length, said.targets, said.significant) == (8, 64, 63, kept)
    assert out.report.reason.startswith("significant gain" if kept else "no significant gain: keep identity (")
    assert [(what, shape) for what, shape, _ in calls] == [
        ("guard: identity", (4, 16)),
        ("guard: tuned", (4, 16)),
        ("gain: identity", (8, 64)),
        ("gain: tuned", (8, 64)),
    ]
    assert calls[3][2] is out.found


def test_what_the_guard_rejects_is_never_measured(monkeypatch, tiny):
    calls = known(monkeypatch, guard_identity=lambda s: [1.0] * 4, guard_tuned=lambda s: [2.0] * 4)
    out = run(plant(tiny(head_dim=32), [(1, 0)]), asked(guard_tau=0.5))
    assert out.found.is_identity
    assert out.kept.is_identity
    assert out.report.guard.endswith("rejected")
    assert len(calls) == 4
    assert "the guard rejected it" in out.report.reason


def test_two_splits_are_read_for_what_they_are_for_and_the_third_never(monkeypatch, tiny):
    seen = {}
    original = problem.windows

    def spy(tokenizer, documents, length, count, seed=0, **fewer):
        seen.setdefault(documents[0].name, []).append((count, length))
        return original(tokenizer, documents, length, count, seed, **fewer)

    for module in (problem, validation):
        monkeypatch.setattr(module, "windows", spy)
    run(plant(tiny(head_dim=32), [(1, 0)]), asked())
    assert seen == {"1": [(2, 64)], "2": [(4, 16), (8, 64)]}


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.0])
def test_the_objective_reported_is_that_of_the_scales_offered(monkeypatch, tiny, share):
    """Planted guard: everything above `share` of the way costs too much."""
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    searched = run(loaded, asked())
    whole = float(searched.found.g.log2().abs().max())
    too_much = lambda s: [1.0 + float(float(s.g.log2().abs().max()) > share * whole * 1.001)] * 4  # noqa: E731
    known(
        monkeypatch,
        guard_identity=lambda s: [1.0] * 4,
        guard_tuned=too_much,
        gain_identity=lambda s: [1.0] * 8,
        gain_tuned=lambda s: [1.0] * 8,
    )
    out = run(loaded, asked(guard_tau=0.5))
    assert torch.allclose(out.found.g.log2(), share * searched.found.g.log2())
    taken = problem.SearchProblem(loaded, RopeSpec(), INT4, asked(), TEXTS)
    ids = taken.windows("calibration", 64, 2)
    objective = taken.objective(capture(loaded, RopeSpec(), ids, 16))
    assert out.report.objective_found == pytest.approx(objective.value(out.found.g.log2().float()), rel=1e-5)
    assert (out.report.objective_found == searched.report.objective_found) == (share == 1.0)
    assert out.report.objective_found == 1.0 or share > 0
