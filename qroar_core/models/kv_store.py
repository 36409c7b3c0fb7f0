"""The stream's own key/value cache: preallocated, quantized the way a real cache is.

A token's K and V are rounded when they enter the cache; with a residual (KIVI) they enter in full
precision and a whole block is rounded once it is full: what a query reads is `quantizers.exact_keys`'s to say.
Preallocation keeps the memory beyond model and cache independent of the length: nothing is ever concatenated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.meters import onto
from qroar_core.maths.rope import rotate, split_pairs, unrotate
from qroar_core.models.geometry import Geometry
from qroar_core.quantizers.exact_keys import first_exact_key
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.steps import squared_step
from qroar_core.specs import QuantizerSpec

CosSin = Callable[[int, int], tuple[Tensor, Tensor]]  # first and past-the-last position -> (t, rotary_dim // 2) each
Rounder = Callable[[Tensor, int], Tensor]  # (B, heads, t, head_dim) and its first position -> the same, rounded


def rounder(
    spec: QuantizerSpec | None,
    geometry: Geometry,
    cos_sin: CosSin,
    absmax: Tensor | None,
    clip: Tensor | None = None,
) -> Rounder | None:
    """The cache's rounding as a function of new tokens, or None in full precision.

    Args:
        cos_sin: gives cos and sin of a run of positions, for quantizers that act before RoPE.
        absmax: calibrated range of a per-tensor scale.
        clip: the share of its range that each KV head keeps, (n_kv_heads,); None: all.
    """
    if spec is None:
        return None
    share = None if clip is None else clip[:, None, None]

    def round_after(x: Tensor, start: int) -> Tensor:
        return fake_quantize(x, spec, absmax=absmax, clip=share)

    def round_before(x: Tensor, start: int) -> Tensor:
        cos, sin = cos_sin(start, start + x.shape[-2])
        plain = unrotate(x, cos, sin, geometry.pairing)
        return rotate(fake_quantize(plain, spec, absmax=absmax, clip=share), cos, sin, geometry.pairing).to(x.dtype)

    return round_before if spec.before_rope else round_after


def pair_steps(
    spec: QuantizerSpec | None, geometry: Geometry, cos_sin: CosSin, absmax: Tensor | None
) -> Rounder | None:
    """As `rounder`, but gives the squared step of each RoPE pair: the mean over its two coordinates.

    A rotation keeps that mean, so for quantizers that act before RoPE it is theirs times the squared attention factor.
    """
    if spec is None:
        return None

    def steps(x: Tensor, start: int) -> Tensor:
        if not spec.before_rope:
            return pair_mean(squared_step(x, spec, absmax=absmax), geometry)
        cos, sin = cos_sin(start, start + x.shape[-2])
        plain = unrotate(x, cos, sin, geometry.pairing)
        return pair_mean(squared_step(plain, spec, absmax=absmax), geometry) * (cos.square() + sin.square())

    return steps


def pair_mean(square: Tensor, geometry: Geometry) -> Tensor:
    """Mean over the two coordinates of every RoPE pair: (..., tokens, head_dim) -> (..., tokens, rotary_dim // 2)."""
    first, second = split_pairs(square, geometry.rotary_dim, geometry.pairing)
    return (first + second) / 2


def followed_by(first: Rounder | None, second: Callable[[Tensor], Tensor]) -> Rounder:
    """`first`, if any, and then `second`."""
    return lambda x, start: second(x if first is None else first(x, start))


def on_channels(inner: Rounder | None, only: Tensor | None, layer: int) -> Rounder | None:
    """`inner`, whose result counts on the channels only[layer]; others stay as they come. None: it counts on all."""
    if inner is None or only is None:
        return inner
    return lambda x, start: torch.where(onto(only[layer], x.device), inner(x, start), x)


def block_of(spec: QuantizerSpec | None) -> int:
    """Tokens rounded together; 1 without a quantizer."""
    return spec.block_tokens if spec is not None else 1


@dataclass(slots=True, eq=False)
class QuantizedCache:
    """The K half or the V half of one layer's cache."""

    store: Tensor  # (B, n_kv_heads, length, head_dim)
    round: Rounder | None
    block: int  # tokens rounded together; 1 = on entry
    rounded_to: int = 0

    def write(self, x: Tensor, start: int) -> None:
        """Put new tokens in: rounded at once when `block` is 1, raw otherwise."""
        if self.round is not None and self.block == 1:
            x = self.round(x, start)
        self.store[:, :, start : start + x.shape[-2]] = x

    def flush_blocks(self, end: int) -> None:
        """Round what the query at position `end` no longer reads exactly."""
        if self.round is None or self.block == 1:
            return
        full = first_exact_key(self.block, end)
        if full > self.rounded_to:
            here = slice(self.rounded_to, full)
            self.store[:, :, here] = self.round(self.store[:, :, here], self.rounded_to)
            self.rounded_to = full


def allocate(
    geometry: Geometry, batch: int, length: int, dtype: torch.dtype, devices: Sequence[torch.device]
) -> list[tuple[Tensor, Tensor]]:
    """The whole cache, zeroed: K (batch, n_kv_heads, length, head_dim) and V (..., value_dim) of every layer.

    One block a device, because the C library hands a block this large back to the system when it is freed; sixty
    smaller ones it would keep, and a second pass would find the first one's memory still taken.

    Args:
        devices: of every layer.
    """
    widest = max(geometry.head_dim, geometry.value_dim)
    shape = (2, batch, geometry.n_kv_heads, length, widest)
    rest = {
        device: iter(torch.zeros(count, *shape, dtype=dtype, device=device))
        for device, count in Counter(devices).items()
    }
    layers = (next(rest[device]) for device in devices)
    return [(k[..., : geometry.head_dim], v[..., : geometry.value_dim]) for k, v in layers]
