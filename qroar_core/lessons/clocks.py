"""Lesson 1: RoPE turns every pair like a clock hand, and a logit sees only the angle between two hands."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qroar_core.lessons.heads import REMEMBERED, Head, native, wavelength
from qroar_core.lessons.result import Clocks
from qroar_core.maths.rope import cos_sin

CIRCLE = 2 * torch.pi


@lru_cache(REMEMBERED)
def clocks(head: Head, position: int, distance: int, stride: int, count: int = 6, frames: int = 60) -> Clocks:
    """`count` pairs from the fastest to the slowest, at `frames` positions from `position` on.

    Both tokens start as the vector (1, 0) in every pair, so that a hand's angle is omega_i m alone.

    Args:
        position: of the key, tokens, >= 0. distance: from key to query, >= 0. stride: tokens a frame.
        count: clocks, 2..pairs.
    """
    inv_freq = native(head)
    pairs = torch.linspace(0, head.n_pairs - 1, count).round().long()
    positions = position + stride * torch.arange(frames)
    shown = inv_freq[pairs]
    return Clocks(
        pairs=pairs.tolist(),
        wavelength=wavelength(shown).tolist(),
        distance=distance,
        positions=positions.tolist(),
        key=hands(shown, positions).tolist(),
        query=hands(shown, positions + distance).tolist(),
        between=hands(shown, torch.tensor([distance]))[0].tolist(),
    )


def hands(inv_freq: Tensor, positions: Tensor) -> Tensor:
    """Angle of (1, 0) after RoPE, rad in [0, 2 pi); (positions, pairs)."""
    cos, sin = cos_sin(inv_freq, positions)
    return torch.atan2(sin, cos).remainder(CIRCLE)
