"""Losses that several evaluations share are those that each would measure alone, and are measured once."""

import torch

from qroar_core.models import shared_losses
from qroar_core.models.condition import Condition
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.shared_losses import SharedLosses
from qroar_core.models.window_losses import measure
from qroar_core.progress import no_progress
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import identity

ROPE, OTHER = RopeSpec("yarn", 2.0), RopeSpec("linear", 2.0)
INT4, INT3 = QuantSpec(k=QuantizerSpec(4)), QuantSpec(k=QuantizerSpec(3))


def counted(monkeypatch):
    made = []

    def counting(loaded, condition, *args, **options):
        made.append(condition)
        return measure(loaded, condition, *args, **options)

    monkeypatch.setattr(shared_losses, "measure", counting)
    return made


def test_each_condition_is_measured_once_and_as_alone(tiny, ids, monkeypatch):
    loaded, text = tiny(), ids(2, 40)
    made = counted(monkeypatch)
    with SharedLosses() as shared:
        for quant in (INT4, INT3, INT4):
            on = shared.on(loaded, ROPE, text, 39, 512)
            reference = on.losses(Condition(ROPE), "", no_progress)
            seen = on.losses(Condition(ROPE, quant), "", no_progress)
            with HiddenStateFile(39) as states:
                plain = measure(loaded, Condition(ROPE), text, 39, keep=states)
                alone = measure(loaded, Condition(ROPE, quant), text, 39, against=states)
            assert torch.equal(reference.nll, plain.nll)
            assert torch.equal(seen.nll, alone.nll)
            assert torch.equal(seen.apart.kl, alone.apart.kl)
    assert len(made) == 3
    assert (shared.windows.made, shared.windows.taken) == (1, 2)
    assert (shared.conditions.made, shared.conditions.taken) == (3, 3)


def test_other_scales_text_targets_rope_or_model_are_another_question(tiny, ids, monkeypatch):
    one, two, text = tiny(), tiny(seed=1), ids(2, 40)
    bands = ((0, 3), (4, 7))
    none = identity(2, 2, bands, "symmetric", "kv_head")
    twice = type(none)(none.mode, none.granularity, none.bands, none.g * torch.tensor([1.0, 3.0]))
    made = counted(monkeypatch)
    with SharedLosses() as shared:
        asked = [(one, ROPE, text, 39), (one, OTHER, text, 39), (one, ROPE, ids(2, 40, seed=1), 39)]
        for loaded, rope, tokens, targets in [*asked, (one, ROPE, text, 20), (two, ROPE, text, 39)]:
            on = shared.on(loaded, rope, tokens, targets, 512)
            on.losses(Condition(rope), "", no_progress)
            losses = [on.losses(Condition(rope, INT4, scales), "", no_progress).nll for scales in (None, twice)]
            assert not torch.equal(*losses)
    assert len(made) == 5 * 3
