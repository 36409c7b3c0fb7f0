"""The pass of a quantized model beside the reference's: errors of q and K as they propagate through the layers.

Needed where the weights or the linears' inputs are quantized, for then q and K differ before any cache rounds them.
The reference's K is kept whole, once for all who compare, and each layer's is freed once it was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from qroar_core.diagnostics.measurement import KeysRead, Measurement, Rounding, settled_keys
from qroar_core.maths.positions import Sampled
from qroar_core.models.stream import AttentionTap
from qroar_core.quantizers.exact_keys import first_exact_key


@dataclass(slots=True, eq=False)
class Reference:
    """What the reference pass leaves behind: every layer's K and its q at the sampled rows."""

    measurement: Measurement
    rows: Sampled
    k: dict[int, Tensor] = field(default_factory=dict)  # (n_kv_heads, length, head_dim)
    q: dict[int, list[Tensor]] = field(default_factory=dict)  # (heads, rows of a chunk, head_dim) each

    def on_attention(self, tap: AttentionTap) -> None:
        """Keep the sampled rows, and K once it is whole."""
        stop = tap.start + tap.k.shape[1]
        self.q.setdefault(tap.layer, []).append(tap.q[:, self.rows.index(tap.start, stop, tap.q.device)])
        if stop >= self.measurement.length:
            self.k[tap.layer] = tap.k_seen.clone()

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerPair:
    """One layer in both passes, whole."""

    tap: AttentionTap  # of the quantized pass's last chunk
    q: Tensor  # (heads, sampled rows, head_dim), the reference's
    q_hat: Tensor
    k: Tensor  # (n_kv_heads, length, head_dim), the reference's
    rounded: Callable[[int, int], Tensor]  # the quantized pass's keys, first to past the last, as read once rounded
    exact: Callable[[int, int], Tensor]  # as read while the cache holds them exactly; for what the rows read so alone
    block: int  # tokens that the cache rounds together


class KeysRecorder(Protocol):
    """What compares keys one by one."""

    def on_keys(self, keys: KeysRead) -> None:
        """Take in a stretch of one layer's keys; stretches of a layer come in order of position."""
        ...


class QueriesRecorder(Protocol):
    """What counts every query that the quantizers are given."""

    def on_queries(self, layer: int, q: Tensor, rounding: Rounding) -> None:
        """Take in one chunk's queries (heads, t, head_dim), before any rounding for the product."""
        ...


class PairRecorder(Protocol):
    """What needs a layer whole."""

    def on_layer_pair(self, pair: LayerPair) -> None:
        """Take in one layer."""
        ...


@dataclass(slots=True, eq=False)
class QuantizedPass:
    """Shows the quantized pass beside the reference."""

    measurement: Measurement
    rows: Sampled
    rounding: Rounding
    reference: Reference
    of_keys: Sequence[KeysRecorder]
    of_layers: Sequence[PairRecorder]
    of_queries: Sequence[QueriesRecorder] = ()
    tails: dict[int, int] = field(init=False)  # first and past the last key of what a row reads exactly
    raw: dict[int, list[tuple[int, Tensor]]] = field(default_factory=dict)  # layer: those keys, from a position
    waiting: dict[int, Tensor] = field(default_factory=dict)  # layer: its newest keys, of a block that is not full
    q: dict[int, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        asked = [] if self.rounding.block == 1 else sorted({*self.rows.listed, self.measurement.length - 1})
        self.tails = {first_exact_key(self.rounding.block, row): row + 1 for row in asked}

    def on_attention(self, tap: AttentionTap) -> None:
        """Compare the keys that this chunk settles, and the layer once its last chunk has come."""
        rounding = self.rounding.at(tap.layer)
        stop = tap.start + tap.k.shape[1]
        self.q.setdefault(tap.layer, []).append(tap.q[:, self.rows.index(tap.start, stop, tap.q.device)])
        for recorder in self.of_queries:
            recorder.on_queries(tap.layer, tap.q, rounding)
        self._keep_raw(tap, stop)
        k = self.reference.k[tap.layer]
        here = settled_keys(rounding.block, tap.start, stop, self.measurement.length)
        waiting = self.waiting.pop(tap.layer, tap.k[:, :0])  # of a block that earlier chunks began
        raw, at = torch.cat([waiting, tap.k], 1), tap.start - waiting.shape[1]
        settled = max(here.stop - at, 0)
        if settled < raw.shape[1]:
            self.waiting[tap.layer] = raw[:, settled:]
        if here.start < here.stop:
            self._book(
                KeysRead(
                    tap.layer,
                    here.start,
                    k[:, here],
                    self._rounded(tap, here.start, here.stop),
                    received=raw[:, :settled],
                    receiver=rounding,
                )
            )
        if stop < self.measurement.length:
            return
        tail = first_exact_key(rounding.block, self.measurement.length - 1)
        if tail < self.measurement.length:
            self._book(
                KeysRead(
                    tap.layer,
                    tail,
                    k[:, tail:],
                    self._exact(tap, tail, self.measurement.length),
                    in_cache=False,
                    received=raw[:, settled:],
                    receiver=rounding,
                )
            )
        q, q_hat = (torch.cat(kept.pop(tap.layer), dim=1) for kept in (self.reference.q, self.q))
        pair = LayerPair(
            tap,
            q,
            rounding.q(q_hat, tap.layer),
            k,
            lambda a, b: self._rounded(tap, a, b),
            lambda a, b: self._exact(tap, a, b),
            rounding.block,
        )
        for whole in self.of_layers:
            whole.on_layer_pair(pair)
        del self.reference.k[tap.layer]
        self.raw.pop(tap.layer, None)
        self.waiting.pop(tap.layer, None)

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to see."""

    def _book(self, keys: KeysRead) -> None:
        for recorder in self.of_keys:
            recorder.on_keys(keys)

    def _keep_raw(self, tap: AttentionTap, stop: int) -> None:
        """The cache rounds a block behind its last query: what sampled queries read before that is kept aside."""
        for first, last in self.tails.items():
            a, b = max(first, tap.start), min(last, stop)
            if a < b:
                self.raw.setdefault(tap.layer, []).append((a, tap.k[:, a - tap.start : b - tap.start].clone()))

    def _rounded(self, tap: AttentionTap, a: int, b: int) -> Tensor:
        """Keys a .. b - 1 as read from the cache; one of single tokens holds them rounded for the product already."""
        k, rounding = tap.k_seen[:, a:b], self.rounding.at(tap.layer)
        return k if rounding.block == 1 else rounding.exact_k(k, tap.layer)

    def _exact(self, tap: AttentionTap, a: int, b: int) -> Tensor:
        k = tap.k_seen[:, a:b].clone()
        for at, kept in self.raw.get(tap.layer, ()):
            first, last = max(a, at), min(b, at + kept.shape[1])
            if first < last:
                k[:, first - a : last - a] = kept[:, first - at : last - at]
        return self.rounding.exact_k(k, tap.layer)
