"""SmoothAttention's scales, from the range of K on calibration text."""

from __future__ import annotations

import torch

from qroar_core.models.key_range import key_absmax
from qroar_core.models.patch import scaled_parameters
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.transforms.baselines import smooth_attention
from qroar_core.transforms.scales import Scales, pooled


def prepare(given: RemedyInputs) -> Prepared:
    """One scale a RoPE pair, from the range of K's two channels of it."""
    loaded, geo = given.loaded, given.loaded.geometry
    pairs = tuple((pair, pair) for pair in range(geo.n_pairs))
    pair_of = geo.channel_band(pairs)
    absmax = key_absmax(loaded, given.rope, given.ids, chunk=given.chunk, on_step=given.on_step)
    reach = torch.stack([absmax[..., pair_of == pair].amax(-1) for pair in range(geo.n_pairs)], -1)
    log2_g = pooled(smooth_attention(reach).log2(), geo.finest)  # (layers, n_kv_heads, pairs)
    scales = Scales("symmetric", geo.finest, pairs, log2_g.exp2().contiguous())
    return Prepared(given.quant, scaled_parameters(loaded, scales))
