"""What every diagnostic shares about one measurement, and what a chunk of the long pass shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor

from qroar_core.maths.bands import Bands, band_of_pair
from qroar_core.maths.positions import PositionBins, Sampled
from qroar_core.maths.quantize import fake_quantize
from qroar_core.maths.rope import unrotate
from qroar_core.models.condition import StaticRange
from qroar_core.models.geometry import Geometry
from qroar_core.models.kv_store import rounder
from qroar_core.models.stream import AttentionTap, Stream
from qroar_core.specs import QuantSpec

SIDES = ("q/pre", "q/post", "k/pre", "k/post")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What every observer shares about the measurement."""

    geometry: Geometry
    bands: Bands
    length: int
    bins: PositionBins
    windows: tuple[int, ...]  # end position of each paired window in the long context
    paired_tokens: int
    tail_keep: dict[str, int]  # "q" and "k": values kept per tail

    @property
    def channel_band(self) -> Tensor:
        """Band of each channel, -1 without rotation."""
        return self.geometry.channel_band(self.bands)

    @property
    def pair_band(self) -> Tensor:
        """Band of each pair."""
        return band_of_pair(self.bands)

    def short_bins(self, short_length: int) -> slice:
        """The position bins that lie inside the short context wholly; the first where none does."""
        return slice(0, max(1, self.bins.inside(short_length)))


def sides_of(tap: AttentionTap, geometry: Geometry, rows: slice) -> dict[str, Tensor]:
    """q and k of some rows of a chunk, before and after RoPE."""
    q, k, cos, sin = tap.q[:, rows], tap.k[:, rows], tap.cos[rows], tap.sin[rows]
    turn = geometry.pairing
    return {"q/pre": unrotate(q, cos, sin, turn), "q/post": q, "k/pre": unrotate(k, cos, sin, turn), "k/post": k}


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """q and K as the quantized logits see them: what the quantizers in force make of the reference's own."""

    geometry: Geometry
    quant: QuantSpec
    stream: Stream
    static: StaticRange | None

    @property
    def rounds_logits(self) -> bool:
        """True when q or k themselves are quantized."""
        return self.quant.k is not None or self.quant.qk is not None

    def k(self, k: Tensor, start: int, layer: int) -> Tensor:
        """K (n_kv_heads, t, head_dim) from position `start`: the cache's rounding, then qk's."""
        at = self.static.k[layer] if self.static is not None and self.static.k is not None else None
        cache = rounder(self.quant.k, self.geometry, partial(self.stream.cos_sin, layer=layer), at)
        if cache is not None:
            k = cache(k[None], start)[0]
        return self._active(k, layer, "k_active")

    def q(self, q: Tensor, layer: int) -> Tensor:
        """q (heads, t, head_dim); itself where it is not quantized."""
        return self._active(q, layer, "q")

    def _active(self, x: Tensor, layer: int, which: str) -> Tensor:
        if self.quant.qk is None:
            return x
        ranges = getattr(self.static, which, None)
        return fake_quantize(x, self.quant.qk, absmax=None if ranges is None else ranges[layer])


@dataclass(eq=False)
class Chunk:
    """One layer's chunk of the long pass; what several diagnostics want of it is computed once."""

    tap: AttentionTap
    geometry: Geometry
    rounding: Rounding
    sampled_q: Tensor | None  # (heads, rows, head_dim) of all sampled query rows, in the last chunk alone

    @cached_property
    def sides(self) -> dict[str, Tensor]:
        """q and k before and after RoPE, (heads, t, head_dim) each."""
        return sides_of(self.tap, self.geometry, slice(None))

    @cached_property
    def k_hat(self) -> Tensor:
        """K as the quantized logits see it, (n_kv_heads, t, head_dim)."""
        return self.rounding.k(self.tap.k, self.tap.start, self.tap.layer)


class Recorder(Protocol):
    """What a diagnostic rides on the long pass with."""

    def on_chunk(self, chunk: Chunk) -> None:
        """Take in one layer's chunk; chunks of a layer come in order of position."""
        ...


@dataclass(slots=True, eq=False)
class LongContext:
    """Shows the reference's own q and k along the long context to every recorder."""

    frame: Frame
    rounding: Rounding
    rows: Sampled  # query rows that logits are counted at
    recorders: Sequence[Recorder]
    kept_q: dict[int, list[Tensor]] = field(default_factory=dict)

    def on_attention(self, tap: AttentionTap) -> None:
        """Feed every recorder with this chunk; the sampled queries come with the last one."""
        stop = tap.start + tap.k.shape[1]
        here = self.rows.index(tap.start, stop, tap.q.device)
        self.kept_q.setdefault(tap.layer, []).append(tap.q[:, here])
        sampled = torch.cat(self.kept_q.pop(tap.layer), dim=1) if stop >= self.frame.length else None
        chunk = Chunk(tap, self.frame.geometry, self.rounding, sampled)
        for recorder in self.recorders:
            recorder.on_chunk(chunk)

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""
