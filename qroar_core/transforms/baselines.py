"""Scales, and maps, from statistics alone, no search: baselines to beat and starting points (docs/method.md section 4).

Both read only how large K is per band; g multiplies q and divides k (`symmetric`). A common factor
of all bands of a head changes nothing, so every head's scales have geometric mean 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qroar_core.maths.channel_groups import ChannelGroup

ALPHA = 0.5  # QServe's migration strength, arXiv 2405.04532 section 4.2
MAD_LIMIT = 3.0  # robust standard deviations past which a band counts as an outlier
MAD_TO_SIGMA = 1.4826  # a normal distribution's standard deviation in MADs


def centred(g: Tensor) -> Tensor:
    """g divided by each head's geometric mean over bands."""
    log = g.double().log()
    return (log - log.mean(-1, keepdim=True)).exp()


def smooth_attention(k_absmax: Tensor, alpha: float = ALPHA) -> Tensor:
    """SmoothAttention per band: g_b = max |k_b|^alpha.

    Args:
        k_absmax: largest |k| of each band's channels on calibration text, after RoPE (where pair
            channels share their range); (..., bands), >= 0.
        alpha: 0 leaves K as it is, 1 gives every band the same range.
    Returns:
        g, (..., bands), float64, geometric mean 1 per head.
    Source: QServe, arXiv 2405.04532, section 4.2 (lambda_i = max(|K_i|)^alpha), here per band.
    """
    floor = k_absmax.double().amax(-1, keepdim=True).clamp_min(1e-30) * 1e-6  # a dead band must not become 0
    return centred(torch.maximum(k_absmax.double(), floor) ** alpha)


def spread_evenly(group: ChannelGroup) -> Tensor:
    """A map that spreads what lies in one channel evenly over its group: where a search of maps starts.

    Pairs that turn: the discrete Fourier transform, each pair one complex number. Channels that do not: a random
    orthonormal matrix, always the same. Both keep q and k as long as they are.

    Returns:
        (size, size), float64, as `ChannelGroup` writes it.
    """
    if group.still:
        drawn = torch.randn(group.size, group.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return torch.linalg.qr(drawn).Q
    step = torch.arange(group.pairs, dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(step, step) / group.pairs
    cos, sin = angle.cos() / math.sqrt(group.pairs), angle.sin() / math.sqrt(group.pairs)
    return torch.cat((torch.cat((cos, -sin), -1), torch.cat((sin, cos), -1)))


def spread_axes_evenly(group: ChannelGroup, covariance: Tensor) -> Tensor:
    """A map that spreads each principal axis of K evenly over its group: no channel holds more of any axis than others.

    `spread_evenly` spreads channels. Where K mostly points one way, its channels are spread onto one again as easily as
    apart; here the directions that K has are what is spread. M = F V^H with the eigenvectors V of E[k k^H], largest
    first, F of `spread_evenly`; V is complex for pairs that turn, whose covariance the common turning leaves as it is.

    Args:
        covariance: E[k k^T] of the group's channels in their order, after RoPE; (..., size, size), symmetric.
    Returns:
        orthonormal (..., size, size), float64, as `ChannelGroup` writes it.
    """
    c, n, flat = covariance.double(), group.pairs, spread_evenly(group).to(covariance.device)
    if group.still:
        return flat @ torch.linalg.eigh(c).eigenvectors.flip(-1).mT
    whole = torch.complex(c[..., :n, :n] + c[..., n:, n:], c[..., n:, :n] - c[..., :n, n:])
    m = torch.complex(flat[:n, :n], flat[n:, :n]) @ torch.linalg.eigh(whole).eigenvectors.flip(-1).mH
    return torch.cat((torch.cat((m.real, -m.imag), -1), torch.cat((m.imag, m.real), -1)), -2)


def mad_clipped(k_absmax: Tensor, limit: float = MAD_LIMIT) -> Tensor:
    """Shrink only outlier bands: those past median + limit robust sigmas come down to that line.

    With log2 a_b the band ranges of a head, sigma = 1.4826 MAD(log2 a): g_b = a_b / line where
    a_b > line, 1 elsewhere. Unlike SmoothAttention it leaves ordinary bands alone.

    Args:
        k_absmax: as in `smooth_attention`.
    Returns:
        g, (..., bands), float64; not centred, so an ordinary band's scale is exactly 1.
    """
    level = k_absmax.double().clamp_min(1e-30).log2()
    middle = _median(level)
    sigma = MAD_TO_SIGMA * _median((level - middle).abs())
    return (level - (middle + limit * sigma)).clamp_min(0).exp2()


def _median(x: Tensor) -> Tensor:
    """Median over the last axis, mean of the middle two when even (torch takes the lower)."""
    return x.quantile(0.5, dim=-1, keepdim=True)
