"""The observers of the diagnosis: what rides on the long pass, the short passes and the quantized pass.

Each keeps histograms, tails, moments and a few sampled rows; nothing here grows with the context.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from qroar_core.maths.anisotropy import AnisotropyMeter
from qroar_core.maths.bands import Bands, band_of_pair
from qroar_core.maths.dilation import QuantilesByPosition
from qroar_core.maths.logit_noise import KEY_BLOCK, LogitNoiseMeter
from qroar_core.maths.logit_pressure import LogitPressureMeter
from qroar_core.maths.outliers import ChannelMeter, OutlierErrorMeter, entry_threshold
from qroar_core.maths.pair_error import PairErrorMeter
from qroar_core.maths.positions import PositionBins, Sampled, log_spaced
from qroar_core.maths.pressure import attention_factor_slope, frequency_slope
from qroar_core.maths.quantize import fake_quantize
from qroar_core.maths.rope import unrotate
from qroar_core.maths.tails import BandTails
from qroar_core.models.condition import StaticRange
from qroar_core.models.geometry import Geometry
from qroar_core.models.kv_store import rounder
from qroar_core.models.rope import Turning
from qroar_core.models.stream import AttentionTap, Stream
from qroar_core.specs import QuantizerSpec, QuantSpec

SIDES = ("q/pre", "q/post", "k/pre", "k/post")
PROBES = {"int8": QuantizerSpec(8), "int4": QuantizerSpec(4)}  # whose error outliers are asked about
QUANTILE_STRIDE = 4  # every fourth token is plenty for quantiles of a bin
SAMPLED_KEYS = 48  # keys per query row in the logit-weighted pressure


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

    def tails(self) -> dict[str, list[BandTails]]:
        """Empty tails for every side and layer."""
        n, kv = len(self.windows), self.geometry.n_kv_heads
        return {
            side: [BandTails(n, kv, self.channel_band, self.tail_keep[side[0]]) for _ in range(self.geometry.n_layers)]
            for side in SIDES
        }


def sides_of(tap: AttentionTap, geometry: Geometry, rows: slice) -> dict[str, Tensor]:
    """q and k of some rows of a chunk, before and after RoPE."""
    q, k, cos, sin = tap.q[:, rows], tap.k[:, rows], tap.cos[rows], tap.sin[rows]
    turn = geometry.pairing
    return {"q/pre": unrotate(q, cos, sin, turn), "q/post": q, "k/pre": unrotate(k, cos, sin, turn), "k/post": k}


@dataclass(slots=True, eq=False)
class PairedTails:
    """Tails of the paired tokens, in the long pass or (`short_length` set) in a batch of short windows."""

    frame: Frame
    short_length: int | None = None
    first_window: int = 0  # of the batch being read
    tails: dict[str, list[BandTails]] = field(init=False)

    def __post_init__(self) -> None:
        self.tails = self.frame.tails()

    def on_attention(self, tap: AttentionTap) -> None:
        """Add the paired tokens this chunk holds."""
        stop = tap.start + tap.k.shape[1]
        if self.short_length is not None:
            ends = [(self.first_window + tap.row, self.short_length)]
        else:
            ends = list(enumerate(self.frame.windows))
        for window, end in ends:
            a, b = max(tap.start, end - self.frame.paired_tokens), min(stop, end)
            if b > a:
                rows = slice(a - tap.start, b - tap.start)
                for side, x in sides_of(tap, self.frame.geometry, rows).items():
                    self.tails[side][tap.layer].add(window, x)

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""


@dataclass(slots=True, eq=False)
class LongContext:
    """Everything measured on the reference's own q and k along the long context."""

    frame: Frame
    quant: QuantSpec
    stream: Stream
    turnings: tuple[Turning, ...]
    query_rows: int
    static: StaticRange | None
    maps: dict[str, list[ChannelMeter]] = field(init=False)
    quantiles: list[QuantilesByPosition] = field(init=False)
    anisotropy: list[AnisotropyMeter] = field(init=False)
    pair_errors: list[PairErrorMeter] = field(init=False)
    outlier_errors: dict[int, OutlierErrorMeter] = field(default_factory=dict)
    noise: list[LogitNoiseMeter | None] = field(init=False)
    pressure: list[LogitPressureMeter | None] = field(init=False)
    rows: Sampled = field(init=False)
    kept_q: dict[int, list[Tensor]] = field(default_factory=dict)
    slopes: dict[int, tuple[Tensor, float]] = field(default_factory=dict)  # d omega and d ln a by d ln s, by layer

    def __post_init__(self) -> None:
        geo, frame = self.frame.geometry, self.frame
        layers = range(geo.n_layers)
        for turning in self.turnings:
            slope = frequency_slope(turning.at), attention_factor_slope(turning.at)
            self.slopes |= dict.fromkeys(turning.group.layers, slope)
        self.maps = {s: [ChannelMeter(geo.n_kv_heads, geo.head_dim, frame.bins) for _ in layers] for s in SIDES}
        self.quantiles = [QuantilesByPosition(frame.bins, frame.channel_band, stride=QUANTILE_STRIDE) for _ in layers]
        self.anisotropy = [AnisotropyMeter(frame.pair_band, geo.pairing) for _ in layers]
        self.pair_errors = [PairErrorMeter(frame.pair_band, geo.pairing, frame.bins) for _ in layers]
        self.noise = [None] * geo.n_layers
        self.pressure = [None] * geo.n_layers
        self.rows = Sampled(log_spaced(frame.length - 1, self.query_rows))

    @property
    def rounds_logits(self) -> bool:
        """True when q or k themselves are quantized, so that this pass sees the error."""
        return self.quant.k is not None or self.quant.qk is not None

    def rounded_k(self, k: Tensor, start: int, layer: int) -> Tensor:
        """K (n_kv_heads, t, head_dim) as the quantized logits see it: the cache's rounding, then qk's."""
        geo, static = self.frame.geometry, self.static
        at = static.k[layer] if static is not None and static.k is not None else None
        cache = rounder(self.quant.k, geo, partial(self.stream.cos_sin, layer=layer), at)
        if cache is not None:
            k = cache(k[None], start)[0]
        return self._active(k, layer, "k_active")

    def _active(self, x: Tensor, layer: int, which: str) -> Tensor:
        if self.quant.qk is None:
            return x
        ranges = getattr(self.static, which, None)
        return fake_quantize(x, self.quant.qk, absmax=None if ranges is None else ranges[layer])

    def on_attention(self, tap: AttentionTap) -> None:
        """Feed every meter with this chunk; logits once, when the last chunk has come."""
        geo, layer = self.frame.geometry, tap.layer
        for side, x in sides_of(tap, geo, slice(None)).items():
            self.maps[side][layer].update(tap.start, x)
        self.quantiles[layer].update(tap.start, tap.k)
        self._outlier_errors(tap)
        if self.rounds_logits:
            k_hat = self.rounded_k(tap.k, tap.start, layer)
            self.anisotropy[layer].update(tap.k, k_hat)
            self.pair_errors[layer].update(tap.start, tap.k, k_hat)
        stop = tap.start + tap.k.shape[1]
        here = self.rows.index(tap.start, stop, tap.q.device)
        self.kept_q.setdefault(layer, []).append(tap.q[:, here])
        if stop >= self.frame.length:
            self._logits(tap, torch.cat(self.kept_q.pop(layer), dim=1))

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""

    def _outlier_errors(self, tap: AttentionTap) -> None:
        meter = self.outlier_errors.get(tap.layer)
        if meter is None:
            limit = entry_threshold(tap.k, self.frame.geometry.n_kv_heads)
            meter = OutlierErrorMeter(limit, self.frame.channel_band, tuple(PROBES))
            self.outlier_errors[tap.layer] = meter
        meter.update(tap.k, {name: fake_quantize(tap.k, spec) for name, spec in PROBES.items()})

    def _logits(self, tap: AttentionTap, q: Tensor) -> None:
        frame, layer, rows = self.frame, tap.layer, self.rows.positions
        self._pressure(tap, q)
        if self.rounds_logits:
            noise = LogitNoiseMeter(frame.channel_band, frame.length, tap.scaling, tap.rule)
            q_hat = self._active(q, layer, "q") if self.quant.qk is not None else None
            block = self.quant.block_tokens
            noise.update(
                q, rows, tap.k_seen, lambda a, b: self.rounded_k(tap.k_seen[:, a:b], a, layer), q_hat,
                key_block=-(-KEY_BLOCK // block) * block,
            )  # fmt: skip
            self.noise[layer] = noise

    def _pressure(self, tap: AttentionTap, q: Tensor) -> None:
        """Logit-weighted pressure of the sampled rows, of layers that turn."""
        geo, layer = self.frame.geometry, tap.layer
        if layer not in self.slopes:
            return
        slope, factor_slope = self.slopes[layer]
        meter = LogitPressureMeter(
            slope, geo.n_kv_heads, scaling=tap.scaling, pairing=geo.pairing, factor_slope=factor_slope,
            window=tap.rule.window,
        )  # fmt: skip
        self.pressure[layer] = meter
        if tap.rule.window is None:
            keys = _first_and_log_spaced(self.frame.length, SAMPLED_KEYS)
            meter.update(q, self.rows.positions, tap.k_seen[:, keys.to(tap.k_seen.device)], keys)
            return
        back = _first_and_log_spaced(tap.rule.window, SAMPLED_KEYS)  # keys spread over the context would miss a window
        for i, row in enumerate(self.rows.listed):
            keys = (row - back[back <= row]).flip(0)
            seen = tap.k_seen[:, keys.to(tap.k_seen.device)]
            meter.update(q[:, i : i + 1], self.rows.positions[i : i + 1], seen, keys)


def _first_and_log_spaced(count: int, samples: int) -> Tensor:
    """0 and up to `samples` log-spaced integers under `count`; int64, ascending."""
    zero = torch.zeros(1, dtype=torch.int64)
    return torch.cat((zero, log_spaced(count - 1, samples))) if count > 1 else zero
