"""Changes of weights at random: nothing is wrong in the product, and a trace that is left is seen and named."""

import random

import pytest
import torch

from benchmarks.endurance import weights
from benchmarks.endurance.random_transform import random_transform, refused_transform
from benchmarks.endurance.tally import BrokenPromise, Tally, report
from qroar_core.errors import QRoarError
from qroar_core.models import load, patch
from qroar_core.transforms.registry import switches

ROUNDS = 20


@pytest.fixture(scope="module")
def demo():
    return load.run("demo", device="cpu")


@pytest.fixture(scope="module")
def pristine():
    return load.run("demo", device="cpu")


@pytest.fixture
def no_stages(monkeypatch):
    """Stages take seconds; without them the rounds are of applying, undoing and refusing alone."""
    monkeypatch.setattr(weights, "ENDS", {weights.ENDED_BY_ERROR: None})
    monkeypatch.setattr(weights, "REFUSALS", 1.0)


def test_no_round_leaves_a_trace(demo, pristine, no_stages):
    rows = weights.endured(demo, pristine, ROUNDS, seed=1)
    assert sum(row.count for row in rows) == ROUNDS
    assert [row.count > 0 for row in rows[:3]] == [True] * 3
    assert [row.violations for row in rows] == [[]] * len(rows)


def test_weights_that_are_computed_back_instead_of_put_back_are_seen(demo, pristine, no_stages, monkeypatch):
    """Planted: undo leaves one weight a last bit beside what it was."""
    undo, name = patch.undo_scales, "model.layers.0.self_attn.q_proj.weight"
    weight = demo.model.get_parameter(name)
    before = weight.data.clone()

    def almost(loaded):
        undo(loaded)
        if loaded is demo:
            weight.data = before.nextafter(torch.tensor(9.0))

    monkeypatch.setattr(patch, "undo_scales", almost)
    try:
        rows = weights.endured(demo, pristine, ROUNDS, seed=1)
    finally:
        weight.data = before
    assert [row.what for row in rows if row.violations] == ["apply", "undo"]  # one undoes what was applied before
    assert rows[1].worst.startswith("1 tensor of ")
    assert rows[1].violations[0].endswith(f"with nothing applied: other bytes in {name}")


def test_a_hook_that_stays_is_seen(demo):
    before = weights.digests(demo)
    hook = demo.model.lm_head.register_forward_pre_hook(lambda module, args: None)
    assert weights.differing(weights.digests(demo), before) == ["hooks of the modules"]
    hook.remove()
    assert weights.differing(weights.digests(demo), before) == []


def test_every_kind_of_transform_is_drawn_and_what_must_be_refused_is(demo):
    rng, seen = random.Random(0), set()
    for _ in range(12):
        scales = random_transform(demo, weights.TIED, rng)
        seen |= {name for name in switches() if getattr(scales, name) not in (None, ())}
        seen |= {scales.mode, scales.granularity}
    assert seen == {*switches(), "symmetric", "shared", "model", "layer", "kv_head"}
    for _ in range(6):
        with pytest.raises(QRoarError):
            patch.apply_scales(demo, refused_transform(demo, weights.TIED, rng))
    assert demo.applied is None


@pytest.mark.slow
def test_stages_are_ended_in_their_middle(demo, pristine):
    rows = weights.endured(demo, pristine, ROUNDS, seed=2)
    assert [row.violations for row in rows] == [[]] * len(rows)
    assert sum(row.count for row in rows if row.what.endswith((weights.CANCELLED, weights.ENDED_BY_ERROR))) > 0


def test_a_violation_is_printed_and_raised(capsys):
    rows = [Tally("apply", 3), Tally("undo", 2, "1 tensor of 9", ["round 4: other bytes in w"])]
    with pytest.raises(BrokenPromise, match=r"^endurance: 1 violation; see"):
        report("endurance", rows)
    said = capsys.readouterr().out
    assert "| undo | 2 | 1 | 1 tensor of 9 |" in said
    assert "Violation. undo: round 4: other bytes in w" in said
    report("endurance", rows[:1])
    with pytest.raises(BrokenPromise, match="never done: undo"):
        report("endurance", [rows[0], Tally("undo")])
