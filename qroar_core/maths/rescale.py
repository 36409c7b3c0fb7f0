"""Band scales and what they do to q and k channels (DESIGN section 4).

`symmetric`: q channels of band b times g_b, k channels times 1/g_b; both channels of a pair share
one g, which commutes with the rotation, so no full-precision logit changes. `shared`: both times
g_b, a temperature g_b^2 per band. Channels past rotary_dim belong to no band and keep gain 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadScales
from qroar_core.maths.bands import Bands, band_of_channel
from qroar_core.maths.rope import Pairing
from qroar_core.specs import Granularity, Mode


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """One positive scale per band. `g` is (n_layers, n_kv_heads, bands), float64, whatever the granularity."""

    mode: Mode
    granularity: Granularity
    bands: Bands
    g: Tensor

    def __post_init__(self) -> None:
        if self.g.ndim != 3 or self.g.shape[-1] != len(self.bands):
            raise BadScales(f"g must be (layers, kv_heads, {len(self.bands)}), got {tuple(self.g.shape)}")
        if not bool(torch.isfinite(self.g).all()) or not bool((self.g > 0).all()):
            raise BadScales("every g must be finite and positive")

    @property
    def is_identity(self) -> bool:
        """True when every scale is exactly 1."""
        return bool((self.g == 1).all())

    def nested(self) -> list:
        """g nested to the granularity: [band], [layer][band] or [layer][kv_head][band]."""
        if self.granularity == "model":
            return self.g[0, 0].tolist()
        return (self.g[:, 0] if self.granularity == "layer" else self.g).tolist()


def identity(n_layers: int, n_kv_heads: int, bands: Bands, mode: Mode = "symmetric",
             granularity: Granularity = "kv_head") -> Scales:  # fmt: skip
    """Scales that change nothing."""
    return Scales(mode, granularity, bands, torch.ones(n_layers, n_kv_heads, len(bands), dtype=torch.float64))


def from_nested(nested: list, mode: Mode, granularity: Granularity, bands: Bands, n_layers: int,
                n_kv_heads: int) -> Scales:  # fmt: skip
    """Inverse of `Scales.nested`.

    Raises:
        BadScales: the nesting is ragged or does not fit the granularity and model.
    """
    shape = {"model": (), "layer": (n_layers,), "kv_head": (n_layers, n_kv_heads)}[granularity]
    try:
        g = torch.tensor(nested, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise BadScales(f"g is not a table of numbers: {error}") from error
    if tuple(g.shape) != (*shape, len(bands)):
        raise BadScales(f"g has shape {tuple(g.shape)}, granularity {granularity} needs {(*shape, len(bands))}")
    g = g.reshape(*shape, *([1] * (2 - len(shape))), len(bands)).expand(n_layers, n_kv_heads, len(bands))
    return Scales(mode, granularity, bands, g.contiguous())


def pooled(log2_g: Tensor, granularity: Granularity) -> Tensor:
    """Average log2 g (layers, kv_heads, bands) over what the granularity shares; same shape."""
    dims = {"model": (0, 1), "layer": (1,), "kv_head": ()}[granularity]
    return log2_g.mean(dims, keepdim=True).expand_as(log2_g) if dims else log2_g


def channel_gains(scales: Scales, head_dim: int, rotary_dim: int, pairing: Pairing,
                  n_heads: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gains on q and k channels: (layers, n_heads, head_dim) and (layers, n_kv_heads, head_dim), float64."""
    band = band_of_channel(scales.bands, head_dim, rotary_dim, pairing)
    padded = torch.cat((scales.g, torch.ones_like(scales.g[..., :1])), dim=-1)  # last: channels without a band
    per_kv = padded[..., torch.where(band >= 0, band, len(scales.bands))]  # (layers, kv, head_dim)
    q_gain = per_kv.repeat_interleave(n_heads // per_kv.shape[1], dim=1)
    return q_gain, (1 / per_kv if scales.mode == "symmetric" else per_kv)
