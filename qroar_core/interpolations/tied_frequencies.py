"""Frequencies and slopes of tied pairs, from those of the interpolation that they are tied under."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from qroar_core.interpolations.tie import Tie, require_pairs


def tied(inv_freq: Tensor, ties: Sequence[Tie]) -> Tensor:
    """The frequencies with every group at one.

    Args:
        inv_freq: omega_i(s) of the interpolation, rad/token, > 0; (pairs,).
    Returns:
        float64, (pairs,); 0 where a group stands still.
    Raises:
        BadSpec: a group past the last pair.
    """
    require_pairs(ties, inv_freq.numel())
    found = inv_freq.double().clone()
    for tie in ties:
        here = slice(tie.first, tie.last + 1)
        found[here] = tie.turn * found[here].log().mean().exp()
    return found


def tied_slope(slope: Tensor, inv_freq: Tensor, ties: Sequence[Tie]) -> Tensor:
    """d omega_i / d ln s with every group at one frequency: omega_group * mean of slope_j / omega_j over its pairs.

    That is the derivative of turn * exp(mean of ln omega_j(s)); 0 where a group stands still.

    Args:
        slope: d omega_i / d ln s of the interpolation; (pairs,).
        inv_freq: omega_i(s) before pairs were tied; same shape.
    Returns:
        float64, (pairs,).
    """
    alone, together = inv_freq.double(), tied(inv_freq, ties)
    found = slope.double().clone()
    for tie in ties:
        here = slice(tie.first, tie.last + 1)
        found[here] = together[here] * (slope.double()[here] / alone[here]).mean()
    return found
