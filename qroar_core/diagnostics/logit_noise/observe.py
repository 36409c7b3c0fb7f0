"""Logit noise: of each layer's own q and k in the long pass, or through the whole model in two passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.diagnostics.frame import Chunk, Frame, Rounding
from qroar_core.diagnostics.logit_noise.measure import KEY_BLOCK, LogitNoiseMeter
from qroar_core.maths.positions import Sampled
from qroar_core.models.stream import AttentionTap


@dataclass(slots=True, eq=False)
class LocalNoise:
    """Each layer's own q and k, rounded: errors of earlier layers are not in it."""

    frame: Frame
    rounding: Rounding
    rows: Sampled
    meters: list[LogitNoiseMeter | None] = field(init=False)

    def __post_init__(self) -> None:
        self.meters = [None] * self.frame.geometry.n_layers

    def on_chunk(self, chunk: Chunk) -> None:
        """Once all keys are there, count the sampled queries against every key that they see."""
        tap, q, rounding = chunk.tap, chunk.sampled_q, self.rounding
        if q is None:
            return
        meter = LogitNoiseMeter(self.frame.channel_band, self.frame.length, tap.scaling, tap.rule)
        q_hat = None if rounding.quant.qk is None else rounding.q(q, tap.layer)
        block = rounding.quant.block_tokens
        meter.update(
            q, self.rows.positions, tap.k_seen, lambda a, b: rounding.k(tap.k_seen[:, a:b], a, tap.layer), q_hat,
            key_block=-(-KEY_BLOCK // block) * block,
        )  # fmt: skip
        self.meters[tap.layer] = meter


@dataclass(slots=True, eq=False)
class PropagatedNoise:
    """Logit noise through the whole model, for quantized weights: the reference's q rows and K are kept."""

    frame: Frame
    rows: Sampled
    kept_q: dict[int, list[Tensor]] = field(default_factory=dict)
    kept_k: dict[int, Tensor] = field(default_factory=dict)
    own_q: dict[int, list[Tensor]] = field(default_factory=dict)
    meters: list[LogitNoiseMeter | None] = field(init=False)
    comparing: bool = False

    def __post_init__(self) -> None:
        self.meters = [None] * self.frame.geometry.n_layers

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
        self.meters[tap.layer] = meter

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""
