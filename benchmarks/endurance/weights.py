"""Apply, undo, cancel and error at random on the demo model: after each, every tensor has the bytes it should have.

What a transform should leave in the weights is computed on a second copy of the model that nothing was ever applied
to, so that a trace of earlier ones shows as well. A stage that is cancelled, or ends by an error at a step or in the
middle of a pass, and a transform that is refused must leave the weights as they were, those with scales in them too.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.endurance.interrupted_stage import STAGES, broken, cancelled, setting_of
from benchmarks.endurance.random_transform import random_transform, refused_transform
from benchmarks.endurance.tally import Tally, report
from qroar_core.errors import QRoarError
from qroar_core.interpolations.tie import Tie
from qroar_core.models import load, patch
from qroar_core.models.loaded import LoadedModel
from qroar_core.number_of import number_of
from qroar_core.specs import RopeSpec

PART = "endurance.weights"
ROUNDS = 1000
TIED = RopeSpec("yarn", 4.0, tie=(Tie(20, 21), Tie(22, 25), Tie(26, 31, 0.0)))  # so that every kind can be drawn
APPLY, UNDO, REFUSED, WHOLE = "apply", "undo", "refused, a transform or a stage", "a stage to its end"
CANCELLED, ENDED_BY_ERROR = "cancelled", "ended by an error"
ENDS = {CANCELLED: cancelled, ENDED_BY_ERROR: broken}
REFUSALS = 0.25  # of the errors
Digests = Mapping[str, str]


def main(rounds: int = ROUNDS, seed: int = 0) -> None:
    """One row an action, and the seconds of it all."""
    began = time.perf_counter()
    rows = endured(load.run("demo", device="cpu"), load.run("demo", device="cpu"), rounds, seed)
    report(PART, rows)
    print(f"{rounds} rounds in {time.perf_counter() - began:.0f} s, seed {seed}: every tensor hashed after each.")


def endured(loaded: LoadedModel, pristine: LoadedModel, rounds: int, seed: int) -> list[Tally]:
    """Rounds on `loaded`; `pristine` is the same model, and stays as it was loaded."""
    rng = random.Random(seed)
    rows = {
        what: Tally(what)
        for what in (APPLY, UNDO, REFUSED, *(f"{name} {how}" for name in STAGES for how in ENDS), WHOLE)
    }
    original = digests(loaded)
    expected, applied = original, None
    for turn in range(rounds):
        what = rng.choice((APPLY, UNDO, *ENDS))
        if what == APPLY:
            applied = random_transform(loaded, TIED, rng)
            patch.apply_scales(loaded, applied)
            expected = digests(pristine, patch.scaled_parameters(pristine, applied))
        elif what == UNDO:
            patch.undo_scales(loaded)
            expected, applied = original, None
        elif what == ENDED_BY_ERROR and rng.random() < REFUSALS:
            what = _refused(loaded, rng)
        else:
            what = _ended(what, loaded, rng)
        row = rows[what]
        row.count += 1
        found = digests(loaded)
        if wrong := differing(found, expected):
            said = f"{number_of(len(wrong), 'tensor')} of {len(original)}"
            row.worst = max(row.worst, said, key=lambda words: int(words.split()[0] if words else 0))
            under = "with scales applied" if applied is not None else "with nothing applied"
            row.violations.append(f"round {turn} of seed {seed}, {under}: other bytes in {', '.join(wrong[:4])}")
            expected = found
        if (loaded.applied is not None) != (applied is not None):
            row.violations.append(f"round {turn} of seed {seed}: the model says that {loaded.applied!r} is applied")
            applied = loaded.applied
    patch.undo_scales(loaded)
    if wrong := differing(digests(loaded), original):
        rows[UNDO].violations.append(f"after all rounds: other bytes in {', '.join(wrong[:4])}")
    return list(rows.values())


def _refused(loaded: LoadedModel, rng: random.Random) -> str:
    scales = refused_transform(loaded, TIED, rng)
    try:
        patch.apply_scales(loaded, scales)
    except QRoarError:
        return REFUSED
    raise AssertionError(f"scales of {tuple(scales.g.shape)} up to {scales.g.max():g} were not refused")


def _ended(how: str, loaded: LoadedModel, rng: random.Random) -> str:
    """A random stage ended in this way; the row that it belongs to."""
    name = rng.choice(list(STAGES))
    setting = setting_of(TIED, rng)
    scales = replace(random_transform(loaded, TIED, rng), mode="symmetric")
    try:
        ended = ENDS[how](name, loaded, setting, scales, rng)
    except QRoarError:  # a setting that this stage does not take
        return REFUSED
    return f"{name} {how}" if ended else WHOLE


def digests(loaded: LoadedModel, instead: Mapping[str, Tensor] | None = None) -> Digests:
    """SHA-256 of every parameter and buffer, and of how many hooks the modules have.

    Args:
        instead: parameters that stand in for the model's own.
    """
    tensors = dict(loaded.model.named_parameters()) | dict(loaded.model.named_buffers()) | dict(instead or {})
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.model.modules())
    return {name: _digest(tensor) for name, tensor in tensors.items()} | {"hooks of the modules": str(hooks)}


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    said = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    said.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return said.hexdigest()


def differing(found: Digests, expected: Digests) -> list[str]:
    """Names of what is not the same in both."""
    return [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
