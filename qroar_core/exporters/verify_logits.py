"""What a reloaded folder computes, against the source model with the same scales and interpolation inside.

Both run in float32 here, by the same code. Parameters are multiplied in float32 and rounded once, so that a float32
export leaves no difference; tied pairs and a folded attention factor are written as other float32 numbers and leave
some. A narrower format rounds every number that it cannot hold by up to half a step of that number. Measured on the
demo model (4 layers) and SmolLM2 135M (30, 16-bit formats of float32 weights), with scales of 1/16 to 16 and angles:

    format                     largest |d ln p| of 64     mean KL, nats
    float32                    0                          0
    float32, tied or folded    8e-6 to 3.3e-5             below 3e-8, which is what KL itself is rounded by
    float16                    6e-4 to 1.4e-2             7e-8 to 3e-6
    bfloat16                   2.4e-2 to 8.3e-2           2e-5 to 1.7e-4
    W4A16, its codes           3e-2 to 4e-2               2e-5 to 3.5e-5, by scales in bfloat16

|d ln p| follows the step, KL its square. The limits are two to three times the most that was measured of |d ln p|, and
five times of KL.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.exporters.check import Check
from qroar_core.exporters.forward_pass import scored
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import own_dtype
from qroar_core.models.score import divergence
from qroar_core.models.stream import Condition
from qroar_core.specs import RopeSpec

QUESTION = "logits against the source model"
HALF_STEPS = 128  # of the number format, relative: the largest |d ln p|, nats
PER_SQUARE = 64  # |d ln p|^2 over it is the mean KL that goes with it, nats
LEAST = 1e-4, 1e-6  # nats, of |d ln p| and KL: of float32, whose own step is smaller than what is written otherwise
HALF_STEP = {torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12, torch.float32: 2.0**-24, torch.float64: 2.0**-24}


def limits_of(dtype: torch.dtype | None) -> tuple[float, float]:
    """The largest |d ln p| and mean KL, nats, that rounding to `dtype` explains; None: codes with 16-bit scales."""
    largest = HALF_STEPS * HALF_STEP[dtype or torch.bfloat16]
    return max(largest, LEAST[0]), max(largest**2 / PER_SQUARE, LEAST[1])


def logits(source: LoadedModel, condition: Condition, again: LoadedModel, ids: Tensor) -> Check:
    """One check, on the last tokens of `ids`, int64 (1, tokens).

    Args:
        condition: the setup, on the source; the export has its own.
    """
    states, wanted = scored(source, condition, ids)
    again_states, found = scored(again, Condition(RopeSpec()), ids)
    apart = divergence(source, states, again_states)
    far, kl = float((found - wanted).abs().max()), float(apart.kl.mean())
    same = float(apart.same_top1.float().mean())
    largest, mean = limits_of(own_dtype(again))
    answer = f"mean KL {kl:.2e} nats, same top-1 {same:.1%}, largest |d ln p| {far:.2e}"
    passed = far <= largest and kl <= mean
    return Check(QUESTION, answer if passed else f"{answer}, rounding explains {mean:.0e} and {largest:.0e}", passed)
