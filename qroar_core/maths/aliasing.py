"""Long-context aliasing: phases the model never met in training, and band kernels that peak away from zero.

A pair with under one turn per native window L0 saw only the arc 0..omega_i L0 in training; at length L its
phase leaves that arc unless the interpolation compresses it. And a band whose kernel C_b(D) = mean_i
cos(omega_i(s) D) rises again far from D = 0 confuses two distances. Frequencies in rad/token, distances in
tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.interpolations.bands import Bands, turns_per_window

BLOCK_DISTANCES = 8192  # distances whose cosines are held at once
ROUNDING = 1e-6  # a smaller share of new phases is float32 rounding of a frequency
RISE = 1e-12  # a smaller rise of the kernel is rounding


def compression(native: Tensor, scaled: Tensor) -> Tensor:
    """omega_i(s) / omega_i, 1 where the interpolation leaves a pair alone; float64, (rotary_dim // 2,)."""
    return scaled.double() / native.double()


def unseen_phase_fraction(native: Tensor, scaled: Tensor, original_context: int, length: int) -> Tensor:
    """Share of the distances 0..L whose phase omega_i(s) D mod 2 pi lies outside the arc met in training.

    A pair that stands still meets no phase but 0, which training had: share 0.
    Seen arc: 0..omega_i L0, the whole circle from one turn on (share 0). With A = omega_i(s) L radians
    travelled, T full turns and a rest: (T (2 pi - seen) + max(0, rest - seen)) / A. D is taken as continuous.

    Args:
        native, scaled: omega_i and omega_i(s), rad/token; (rotary_dim // 2,).
        original_context, length: L0 and L, tokens, >= 1.
    Returns:
        0..1, float64, (rotary_dim // 2,).
    """
    if original_context < 1 or length < 1:
        raise ValueError(f"contexts must be >= 1 token, got {original_context}, {length}")
    circle = 2 * math.pi
    seen = (turns_per_window(native, original_context) * circle).clamp(max=circle)
    travelled = scaled.double() * length
    full = (travelled / circle).floor()
    outside = full * (circle - seen) + (travelled - full * circle - seen).clamp(min=0)
    share = outside / travelled.where(travelled > 0, 1.0)
    return share.where(share > ROUNDING, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class BandKernel:
    """C_b(D) for display, and its highest side peak.

    distance: (points,) int64, first distance of each bucket. low, high: (bands, points), least and greatest
    value in the bucket, so that decimation hides no peak. side_peak: (bands,), the highest local maximum
    after the first local minimum, NaN where the kernel has none up to L; side_peak_at: its distance, tokens,
    -1 where none.
    """

    distance: Tensor
    low: Tensor
    high: Tensor
    side_peak: Tensor
    side_peak_at: Tensor


def kernel_values(scaled: Tensor, bands: Bands, length: int) -> Tensor:
    """C_b(D) = mean of cos(omega_i(s) D) over the pairs of band b, for D = 0..L; float64, (bands, L + 1)."""
    omega = scaled.double()
    out = torch.empty(len(bands), length + 1, dtype=torch.float64)
    for first in range(0, length + 1, BLOCK_DISTANCES):
        distance = torch.arange(first, min(first + BLOCK_DISTANCES, length + 1), dtype=torch.float64)
        cos = (omega[:, None] * distance).cos_()  # (r/2, block)
        for b, (i, j) in enumerate(bands):
            out[b, first : first + len(distance)] = cos[i : j + 1].mean(0)
    return out


def side_peaks(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Height and distance of each row's highest local maximum past its main lobe.

    The main lobe ends at the first distance from which the kernel rises. A maximum at the last distance is
    the window's edge, not a peak.

    Args:
        kernel: (bands, L + 1) float64, row 0 at D = 0.
    Returns:
        (bands,) float64, NaN where there is none; (bands,) int64, -1 where there is none.
    """
    step = kernel.diff(dim=1)  # step[D] = C(D+1) - C(D)
    rising = step > RISE
    past_lobe = rising.cumsum(1)[:, :-1] > 0  # at D = 1..L-1: a rise ended at or before D
    peak = past_lobe & (step[:, :-1] > 0) & (step[:, 1:] <= 0)
    height = kernel[:, 1:-1].where(peak, -math.inf)
    if height.shape[1] == 0:
        return torch.full((len(kernel),), math.nan).double(), torch.full((len(kernel),), -1)
    best, at = height.max(1)
    none = best.isinf()
    return best.masked_fill(none, math.nan), (at + 1).masked_fill(none, -1)


def band_kernel(scaled: Tensor, bands: Bands, length: int, points: int = 1024) -> BandKernel:
    """Kernel of every band up to `length`, decimated to at most `points` buckets of equal width.

    Args:
        scaled: omega_i(s), rad/token; (rotary_dim // 2,).
        bands: inclusive pair ranges.
        length: L, tokens, >= 1. points: >= 1.
    Raises:
        ValueError: length or points under 1.
    """
    if length < 1 or points < 1:
        raise ValueError(f"need length >= 1 and points >= 1, got {length}, {points}")
    kernel = kernel_values(scaled, bands, length)
    width = -(-(length + 1) // points)
    filled = -(-(length + 1) // width) * width
    padded = torch.cat([kernel, kernel[:, -1:].expand(-1, filled - length - 1)], 1)  # repeat the last value
    buckets = padded.reshape(len(bands), -1, width)
    peak, at = side_peaks(kernel)
    return BandKernel(torch.arange(0, filled, width), buckets.amin(-1), buckets.amax(-1), peak, at)
