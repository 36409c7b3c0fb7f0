"""Lesson 6: two bands share one step, and a scale on the loud one frees levels for the quiet one."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qroar_core.interpolations.bands import Bands, band_of_channel
from qroar_core.lessons.heads import REMEMBERED
from qroar_core.lessons.result import SharedStep
from qroar_core.maths.rope import cos_sin, rotate, split_pairs, static_ntk
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.grid import Storage
from qroar_core.quantizers.grids import GRIDS
from qroar_core.specs import QuantizerSpec
from qroar_core.transforms.scales import Scales, channel_gains

HEAD_DIM, THETA = 16, 10_000.0
BANDS: Bands = ((0, 3), (4, 7))  # the faster four pairs are the loud band
TOKENS = 64  # keys, and as many queries
LEAST, MOST, STEPS_PER_OCTAVE = -2.0, 6.0, 16  # of the log2 g the error is drawn over
SEED = 0


@lru_cache(REMEMBERED)
def shared_step(bits: int, loudness: float, log2_g: float) -> SharedStep:
    """K after RoPE in `bits` per token, its first band `loudness` times the second; q g, k / g on that band.

    Channels of q and k are Gaussian (a fixed seed), of standard deviation 1 but for the loud band of k; tokens
    0..63 are the keys and 64..127 the queries, rotated as any model rotates them.
    """
    spec = QuantizerSpec(bits)
    grid = torch.arange(LEAST, MOST + 1e-9, 1 / STEPS_PER_OCTAVE, dtype=torch.float64)
    tried = torch.cat((grid, torch.tensor([0.0, log2_g], dtype=torch.float64)))
    q, k = _scaled_and_rotated(loudness, tried)  # each (tried, tokens, head_dim)
    plain = q @ k.transpose(-1, -2)  # (tried, queries, keys)
    untouched = plain[-2]  # log2 g = 0
    size = untouched.square().mean().sqrt()
    noise = fake_quantize(k, spec) - k
    loud_error, quiet_error = (_logit_rms(q, noise * of_band) / size for of_band in _channels_of_bands())
    error = _logit_rms(q, noise) / size
    best = int(error[: len(grid)].argmin())

    step = GRIDS[spec.levels].grid(k[-1], -1, bits, Storage(k.dtype), None).step  # (tokens, 1)
    loud, quiet = _pairs(k[-1] / step)
    loud_codes, quiet_codes = _pairs(fake_quantize(k[-1], spec) / step)
    return SharedStep(
        bits=bits,
        loudness=loudness,
        log2_g=log2_g,
        top=round(GRIDS[spec.levels].largest_code(spec.bits)),
        loud=[(x, y) for x, y in loud.tolist()],
        quiet=[(x, y) for x, y in quiet.tolist()],
        loud_levels=len(loud_codes.round().unique()),
        quiet_levels=len(quiet_codes.round().unique()),
        grid=grid.tolist(),
        error=error[: len(grid)].tolist(),
        loud_error=loud_error[: len(grid)].tolist(),
        quiet_error=quiet_error[: len(grid)].tolist(),
        error_here=float(error[-1]),
        best_log2_g=float(grid[best]),
        best_error=float(error[best]),
        logit_change=float((plain - untouched).abs().max() / size),
    )


def drawn(loudness: float) -> tuple[Tensor, Tensor]:
    """q and k before scales and RoPE, float64, each (tokens, head_dim), half pairing."""
    source = torch.Generator().manual_seed(SEED)
    q = torch.randn(TOKENS, HEAD_DIM, generator=source, dtype=torch.float64)
    k = torch.randn(TOKENS, HEAD_DIM, generator=source, dtype=torch.float64)
    for half in split_pairs(k, HEAD_DIM, "half"):  # views: written in place
        half[:, BANDS[0][0] : BANDS[0][1] + 1] *= loudness
    return q, k


def _logit_rms(q: Tensor, noise: Tensor) -> Tensor:
    """RMS over queries and keys of what `noise` on k puts into the logits; (tried,)."""
    return (q @ noise.transpose(-1, -2)).square().mean((1, 2)).sqrt()


def _channels_of_bands() -> list[Tensor]:
    """For each band, 1 on its channels and 0 elsewhere; (head_dim,)."""
    band = band_of_channel(BANDS, HEAD_DIM, HEAD_DIM, "half")
    return [(band == b).double() for b in range(len(BANDS))]


def _scaled_and_rotated(loudness: float, log2_g: Tensor) -> tuple[Tensor, Tensor]:
    """q g and k / g after RoPE, one slice for each log2 g; (len(log2_g), tokens, head_dim)."""
    q, k = drawn(loudness)
    g = torch.stack((2**log2_g, torch.ones_like(log2_g)), dim=1)[:, None]  # (tried, 1 head, 2 bands)
    scales = Scales("symmetric", "kv_head", BANDS, g)  # each g tried stands where a layer would
    q_gain, k_gain = channel_gains(scales, HEAD_DIM, HEAD_DIM, "half", n_heads=1)  # (tried, 1, head_dim)
    inv_freq, positions = static_ntk(THETA, HEAD_DIM, 1.0), torch.arange(TOKENS)
    turned_k = rotate(k * k_gain, *cos_sin(inv_freq, positions), "half")
    return rotate(q * q_gain, *cos_sin(inv_freq, positions + TOKENS), "half"), turned_k


def _pairs(k: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of the two bands as points, each (tokens * pairs, 2)."""
    points = torch.stack(split_pairs(k, HEAD_DIM, "half"), dim=-1)  # (tokens, pairs, 2)
    return tuple(points[:, first : last + 1].flatten(0, 1) for first, last in BANDS)  # type: ignore[return-value]
