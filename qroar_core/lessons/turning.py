"""Lesson 5: the quantizer's grid stands on the axes while RoPE turns the pair, so the error has an angle."""

from __future__ import annotations

from functools import lru_cache

import torch

from qroar_core.lessons.heads import REMEMBERED
from qroar_core.lessons.result import Turning
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.grid import Storage
from qroar_core.quantizers.grids import GRIDS
from qroar_core.specs import QuantizerSpec

ANGLES = 720  # half a degree apart


@lru_cache(REMEMBERED)
def turning(bits: int, length: float, other: float, degrees: float) -> Turning:
    """A pair of `length` at every angle, rounded together with one channel of magnitude `other`.

    The three channels are one token: symmetric integers, one absmax step.

    Args:
        bits: 2..8. length: > 0. other: >= 0. degrees: the angle looked at, 0..360.
    """
    spec = QuantizerSpec(bits)
    angle = torch.arange(ANGLES, dtype=torch.float64) * (2 * torch.pi / ANGLES)
    pair = length * torch.stack((angle.cos(), angle.sin()), dim=1)  # (angles, 2)
    token = torch.cat((pair, torch.full((ANGLES, 1), other, dtype=torch.float64)), dim=1)  # (angles, 3)
    rounded = fake_quantize(token, spec)[:, :2]
    step = GRIDS[spec.levels].grid(token, -1, bits, Storage(token.dtype), None).step[:, 0]
    at = round(degrees * ANGLES / 360) % ANGLES
    top = round(GRIDS[spec.levels].largest_code(spec.bits))
    return Turning(
        bits=bits,
        length=length,
        other=other,
        angle=angle.tolist(),
        x=pair[:, 0].tolist(),
        y=pair[:, 1].tolist(),
        rounded_x=rounded[:, 0].tolist(),
        rounded_y=rounded[:, 1].tolist(),
        step=step.tolist(),
        error=((rounded - pair).norm(dim=1) / length).tolist(),
        at=at,
        levels=(torch.arange(-top, top + 1) * step[at]).tolist(),
    )
