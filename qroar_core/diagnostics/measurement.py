"""What every diagnostic shares about one measurement, and what a chunk of the long pass shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor

from qroar_core.diagnostics.result_base import DiagnosticResult
from qroar_core.diagnostics.tail_inflation.result import TENSORS
from qroar_core.interpolations.bands import Bands, band_of_pair
from qroar_core.maths.positions import PositionBins, Sampled
from qroar_core.maths.rope import unrotate
from qroar_core.models.condition import StaticRange
from qroar_core.models.geometry import Geometry
from qroar_core.models.kv_store import CosSin, block_of, pair_mean, pair_steps, rounder
from qroar_core.models.memory import return_freed_pages
from qroar_core.models.stream import AttentionTap, Stream
from qroar_core.quantizers.exact_keys import first_exact_key
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.steps import Ends, ends_of, squared_step
from qroar_core.specs import DiagnosisSpec, QuantSpec

SIDES = tuple(reversed(TENSORS))  # before RoPE first, as they come


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What every observer shares about the measurement."""

    geometry: Geometry
    bands: Bands
    length: int
    bins: PositionBins
    windows: tuple[int, ...]  # end position of each paired window in the long context
    paired_tokens: int
    tail_keep: dict[str, int]  # "q" and "k": values kept per tail
    spec: DiagnosisSpec = DiagnosisSpec()  # the distance law, the seed and how often a null is drawn

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


@dataclass(frozen=True, eq=False)
class KeysRead:
    """A stretch of one layer's keys: the reference's own, and as the last query of the context reads them."""

    layer: int
    start: int  # position of the first
    k: Tensor  # (n_kv_heads, t, head_dim)
    k_hat: Tensor
    rounding: Rounding | None = None  # what made k_hat of k; None: k_hat is a quantized pass's
    in_cache: bool = True  # False: the cache holds them exactly, they are rounded for the product alone
    received: Tensor | None = None  # what the quantizers of a quantized pass are given; None: k itself
    receiver: Rounding | None = None  # those quantizers

    @cached_property
    def step(self) -> Tensor | None:
        """Squared step of each RoPE pair, (n_kv_heads, t, rotary_dim // 2); None where no quantizer made k_hat of k."""
        rounding = self.rounding
        return None if rounding is None else rounding.k_step(self.k, self.start, self.layer, self.in_cache)

    @property
    def given(self) -> Tensor | None:
        """The keys that quantizers make k_hat of: in a quantized pass its own; None where none rounds these."""
        by = self._by
        rounded = by is not None and (by.quant.qk is not None or (self.in_cache and by.quant.k is not None))
        return self.handed if rounded else None

    @property
    def axes(self) -> Tensor | None:
        """The keys before RoPE where the cache's quantizer rounds them there; None: its axes are those of k itself."""
        by = self._by
        if by is None or by.quant.k is None or not by.quant.k.before_rope:
            return None
        return by.before_rope(self.k, self.start, self.layer)

    @cached_property
    def ends(self) -> Ends | None:
        """Which values of those that the quantizers are given are clipped or become zero; None where there are none."""
        by = self._by
        return None if by is None else by.k_ends(self.handed, self.start, self.layer, self.in_cache)

    @property
    def handed(self) -> Tensor:
        """The keys that the cache is given: in a quantized pass its own."""
        return self.k if self.received is None else self.received

    @property
    def _by(self) -> Rounding | None:
        return self.rounding if self.receiver is None else self.receiver


def settled_keys(block: int, start: int, stop: int, length: int) -> slice:
    """The keys that tokens start .. stop - 1 settle: held from now on as the last query of `length` tokens reads them.

    Over the chunks of a context every key comes once, with its whole block, but for those that a cache of blocks still
    holds exactly at the end.
    """
    return slice(start // block * block, min(stop // block * block, first_exact_key(block, length - 1)))


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """q and K as the quantized logits see them: what the quantizers in force make of the reference's own."""

    geometry: Geometry
    quant: QuantSpec
    stream: Stream
    static: StaticRange | None

    def at(self, layer: int) -> Rounding:
        """The rounding of one layer: its cache may be kept as it is."""
        mine = self.geometry.quant_at(layer, self.quant)
        return self if mine is self.quant else replace(self, quant=mine)

    @property
    def rounds_logits(self) -> bool:
        """True when q or k themselves are quantized."""
        return self.quant.k is not None or self.quant.qk is not None

    @property
    def block(self) -> int:
        """Keys that the cache rounds together; which of them a query reads exactly says quantizers.exact_keys."""
        return block_of(self.quant.k)

    def rounds_keys(self, length: int) -> bool:
        """True when the last query of `length` tokens reads any key rounded."""
        return self.quant.qk is not None or (self.quant.k is not None and first_exact_key(self.block, length - 1) > 0)

    def k(self, k: Tensor, start: int, layer: int) -> Tensor:
        """K (n_kv_heads, t, head_dim) of whole blocks from position `start`: the cache's rounding, then qk's."""
        return self.exact_k(self._cached(k, start, layer), layer)

    def exact_k(self, k: Tensor, layer: int) -> Tensor:
        """K as it is read while the cache holds it exactly: qk's rounding alone."""
        return self._active(k, layer, "k_active")

    def k_step(self, k: Tensor, start: int, layer: int, in_cache: bool = True) -> Tensor | None:
        """Squared step that each RoPE pair of K is rounded with, (n_kv_heads, t, rotary_dim // 2).

        Where the cache's quantizer and qk's round one after the other, the coarser of the two. None: neither does.

        Args:
            in_cache: False for keys that the cache holds exactly.
        """
        steps = []
        cache = pair_steps(self.quant.k, self.geometry, *self._cache_needs(layer)) if in_cache else None
        if cache is not None:
            steps.append(cache(k[None], start)[0])
        if self.quant.qk is not None:
            kept = self._cached(k, start, layer) if in_cache else k
            square = squared_step(kept, self.quant.qk, absmax=self._active_range(layer, "k_active"))
            steps.append(pair_mean(square, self.geometry))
        return torch.stack(steps).amax(0) if steps else None

    def k_ends(self, k: Tensor, start: int, layer: int, in_cache: bool = True) -> Ends | None:
        """Which values of K are clipped or become zero: by the cache's quantizer, or qk's where it has none."""
        if self.quant.k is None or not in_cache:
            return self.ends(k, layer, "k_active")
        if self.quant.k.before_rope:
            k = self.before_rope(k, start, layer)
        return ends_of(k, self.quant.k, absmax=self._cache_needs(layer)[1])

    def before_rope(self, k: Tensor, start: int, layer: int) -> Tensor:
        """K (n_kv_heads, t, head_dim) from position `start` as it was before RoPE."""
        cos_sin, _ = self._cache_needs(layer)
        return unrotate(k, *cos_sin(start, start + k.shape[1]), self.geometry.pairing)

    def ends(self, x: Tensor, layer: int, which: str) -> Ends | None:
        """The same of q ("q") or of K as qk rounds it ("k_active"); None without quantized activations."""
        return None if self.quant.qk is None else ends_of(x, self.quant.qk, absmax=self._active_range(layer, which))

    def _cached(self, k: Tensor, start: int, layer: int) -> Tensor:
        cache = rounder(self.quant.k, self.geometry, *self._cache_needs(layer))
        return k if cache is None else cache(k[None], start)[0]

    def _cache_needs(self, layer: int) -> tuple[CosSin, Tensor | None]:
        at = self.static.k[layer] if self.static is not None and self.static.k is not None else None
        return partial(self.stream.cos_sin, layer=layer), at

    def q(self, q: Tensor, layer: int) -> Tensor:
        """q (heads, t, head_dim); itself where it is not quantized."""
        return self._active(q, layer, "q")

    def _active(self, x: Tensor, layer: int, which: str) -> Tensor:
        if self.quant.qk is None:
            return x
        return fake_quantize(x, self.quant.qk, absmax=self._active_range(layer, which))

    def _active_range(self, layer: int, which: str) -> Tensor | None:
        ranges = getattr(self.static, which, None)
        return None if ranges is None else ranges[layer]


@dataclass(eq=False)
class Chunk:
    """One layer's chunk of the long pass; what several diagnostics want of it is computed once."""

    tap: AttentionTap
    geometry: Geometry
    rounding: Rounding
    sampled_q: Tensor | None  # (heads, rows, head_dim) of all sampled query rows, in the last chunk alone
    length: int  # of the context

    @cached_property
    def sides(self) -> dict[str, Tensor]:
        """q and k before and after RoPE, (heads, t, head_dim) each."""
        return sides_of(self.tap, self.geometry, slice(None))

    @cached_property
    def keys_read(self) -> list[KeysRead]:
        """What of the layer's K the chunk settles; keys that the context's last query reads exactly never come."""
        tap, rounding = self.tap, self.rounding
        stop = tap.start + tap.k.shape[1]
        here = settled_keys(rounding.block, tap.start, stop, self.length)
        found = []
        if here.start < here.stop:
            k = tap.k_seen[:, here]
            found.append(KeysRead(tap.layer, here.start, k, rounding.k(k, here.start, tap.layer), rounding))
        tail = first_exact_key(rounding.block, self.length - 1)
        if stop >= self.length > tail and rounding.quant.qk is not None:
            k = tap.k_seen[:, tail : self.length]
            found.append(KeysRead(tap.layer, tail, k, rounding.exact_k(k, tap.layer), rounding, False))
        return found


class Recorder(Protocol):
    """What a diagnostic rides on the long pass with."""

    def on_chunk(self, chunk: Chunk) -> None:
        """Take in one layer's chunk; chunks of a layer come in order of position."""
        ...


class OtherRecorder(Recorder, Protocol):
    """What a diagnostic that has no field in `Diagnosis` rides on the long pass with, and what it found there."""

    def __init__(self, measurement: Measurement) -> None: ...

    def result(self) -> DiagnosticResult:
        """After the last chunk of the last layer."""
        ...


@dataclass(slots=True, eq=False)
class LongContext:
    """Shows the reference's own q and k along the long context to every recorder."""

    measurement: Measurement
    rounding: Rounding
    rows: Sampled  # query rows that logits are counted at
    recorders: Sequence[Recorder]
    kept_q: dict[int, Tensor] = field(default_factory=dict)  # layer -> (heads, rows, head_dim), made once

    def on_attention(self, tap: AttentionTap) -> None:
        """Feed every recorder with this chunk; the sampled queries come with the last one."""
        stop = tap.start + tap.k.shape[1]
        if tap.layer not in self.kept_q:
            self.kept_q[tap.layer] = tap.q.new_empty(tap.q.shape[0], len(self.rows.listed), tap.q.shape[2])
        here = self.rows.index(tap.start, stop, tap.q.device)
        self.kept_q[tap.layer][:, self.rows.inside(tap.start, stop)] = tap.q[:, here]
        sampled = self.kept_q.pop(tap.layer) if stop >= self.measurement.length else None
        rounding = self.rounding.at(tap.layer)
        chunk = Chunk(tap, self.measurement.geometry, rounding, sampled, self.measurement.length)
        for recorder in self.recorders:
            recorder.on_chunk(chunk)
            if sampled is not None:  # those that weigh every key against the sampled queries free the most
                return_freed_pages()
        return_freed_pages()

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""
