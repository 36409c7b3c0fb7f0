"""The observers that compare two passes: what the reference showed is kept, the quantized pass held against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from qroar_core.maths.logit_noise import LogitNoiseMeter
from qroar_core.maths.positions import Sampled, log_spaced
from qroar_core.maths.similarity import SimilarityMeter
from qroar_core.models.observe import Frame
from qroar_core.models.stream import AttentionTap

HIDDEN_ROWS = 8  # sampled rows per position bin in the hidden-state comparison


@dataclass(slots=True, eq=False)
class HiddenRows:
    """Layer outputs at sampled positions: kept in the reference pass, compared in the quantized one."""

    frame: Frame
    rows: Sampled = field(init=False)
    kept: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    meter: SimilarityMeter | None = None  # set: compare instead of keep

    def __post_init__(self) -> None:
        count = min(self.frame.length, HIDDEN_ROWS * self.frame.bins.count)
        self.rows = Sampled(torch.linspace(0, self.frame.length - 1, count).round().long().unique())

    def on_attention(self, tap: AttentionTap) -> None:
        """Nothing to see."""

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Keep or compare the sampled rows of this chunk."""
        stop = start + hidden.shape[0]
        picked = hidden[self.rows.index(start, stop, hidden.device)]
        if self.meter is None:
            self.kept[layer, start] = picked
            return
        kept, edges, first = self.kept[layer, start], self.frame.bins.edges(), 0
        for p, rows in groupby(self.rows.listed[self.rows.inside(start, stop)], self.frame.bins.of):
            end = first + len(list(rows))  # rows of one bin together; they are fewer than its tokens
            self.meter.update(layer, edges[p], kept[first:end], picked[first:end])
            first = end


@dataclass(slots=True, eq=False)
class PropagatedNoise:
    """Logit noise through the whole model, for quantized weights: the reference's q rows and K are kept."""

    frame: Frame
    query_rows: int
    rows: Sampled = field(init=False)
    kept_q: dict[int, list[Tensor]] = field(default_factory=dict)
    kept_k: dict[int, Tensor] = field(default_factory=dict)
    own_q: dict[int, list[Tensor]] = field(default_factory=dict)
    noise: list[LogitNoiseMeter | None] = field(init=False)
    comparing: bool = False

    def __post_init__(self) -> None:
        self.noise = [None] * self.frame.geometry.n_layers
        self.rows = Sampled(log_spaced(self.frame.length - 1, self.query_rows))

    def on_attention(self, tap: AttentionTap) -> None:
        """Reference pass: keep q rows and K. Quantized pass: compare once the last chunk has come."""
        stop = tap.start + tap.k.shape[1]
        here = self.rows.index(tap.start, stop, tap.q.device)
        store = self.own_q if self.comparing else self.kept_q
        store.setdefault(tap.layer, []).append(tap.q[:, here])
        if stop < self.frame.length:
            return
        if not self.comparing:
            self.kept_k[tap.layer] = tap.k_seen.clone()
            return
        meter = LogitNoiseMeter(self.frame.channel_band, self.frame.length, tap.scaling, tap.rule)
        q, q_hat = (torch.cat(kept.pop(tap.layer), dim=1) for kept in (self.kept_q, self.own_q))
        meter.update(q, self.rows.positions, self.kept_k.pop(tap.layer), tap.k_seen, q_hat)
        self.noise[tap.layer] = meter

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""
