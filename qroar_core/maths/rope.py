"""Rotary position embedding on explicit pairs.

A head vector of `head_dim` channels holds rotary_dim/2 pairs; pair i at position m is the complex
number z_i = x_a + j x_b turned by +omega_i m, where (a, b) is (i, i + r/2) in `half` pairing (Llama,
Qwen) and (2i, 2i + 1) in `interleaved` pairing (Cohere, GLM, llama.cpp). Channels past rotary_dim
carry no rotation. cos and sin carry PI's attention factor a(s), so a rotated pair's norm is a(s)
times the plain one's. Source: arXiv 2104.09864, eq. 34.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from qroar_core.interpolations.methods.ntk import ntk_theta

Pairing = Literal["half", "interleaved"]


def pair_index(head_dim: int, rotary_dim: int, pairing: Pairing) -> Tensor:
    """Frequency index of each channel, -1 where unrotated; int64, (head_dim,)."""
    index = torch.full((head_dim,), -1)
    channel = torch.arange(rotary_dim)
    index[:rotary_dim] = channel % (rotary_dim // 2) if pairing == "half" else channel // 2
    return index


def cos_sin(inv_freq: Tensor, positions: Tensor, attention_factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """cos and sin of omega_i m times the attention factor, each (tokens, rotary_dim // 2).

    Computed in inv_freq's dtype: float32 reproduces transformers' modules bit for bit, float64 is
    for oracles and long distances.
    """
    angle = positions[:, None].to(inv_freq.dtype) * inv_freq[None, :]  # (T, r/2) rad
    return angle.cos() * attention_factor, angle.sin() * attention_factor


def split_pairs(x: Tensor, rotary_dim: int, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """The two coordinates of every pair, each (..., T, rotary_dim // 2). Views, not copies."""
    if pairing == "half":
        return x[..., : rotary_dim // 2], x[..., rotary_dim // 2 : rotary_dim]
    return x[..., 0:rotary_dim:2], x[..., 1:rotary_dim:2]


def join_pairs(first: Tensor, second: Tensor, rest: Tensor, pairing: Pairing) -> Tensor:
    """Inverse of `split_pairs`; `rest` holds the unrotated channels (may be empty)."""
    if pairing == "half":
        return torch.cat((first, second, rest), dim=-1)
    turned = torch.stack((first, second), dim=-1).flatten(-2)  # (..., T, r)
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def rotate(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing) -> Tensor:
    """Turn every pair of x (..., T, head_dim) by +omega_i m; cos, sin (T, rotary_dim // 2)."""
    rotary_dim = 2 * cos.shape[-1]
    a, b = split_pairs(x, rotary_dim, pairing)
    return join_pairs(a * cos - b * sin, b * cos + a * sin, x[..., rotary_dim:], pairing)


def unrotate(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing) -> Tensor:
    """Undo `rotate`, the attention factor included."""
    wide = torch.promote_types(x.dtype, cos.dtype)
    cos, sin = cos.to(wide), sin.to(wide)
    norm = cos.square() + sin.square()  # a(s)^2
    return rotate(x, cos / norm, -sin / norm, pairing)


def pair_norm(x: Tensor, rotary_dim: int, pairing: Pairing) -> Tensor:
    """|z_i| of every pair, (..., T, rotary_dim // 2)."""
    a, b = split_pairs(x, rotary_dim, pairing)
    return torch.hypot(a, b)


def static_ntk(theta: float, rotary_dim: int, factor: float) -> Tensor:
    """inv_freq of static NTK-aware scaling, float64 (rotary_dim // 2,).

    theta' = theta * s^(r / (r - 2)); the slowest pair is slowed by exactly s, the fastest not at all.
    transformers has no such type, so the project owns it. An export writes it as a larger rope_theta.
    Source: bloc97, r/LocalLLaMA 2023; arXiv 2309.00071 section 3.1.
    """
    exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim
    return ntk_theta(theta, rotary_dim, factor) ** -exponent
