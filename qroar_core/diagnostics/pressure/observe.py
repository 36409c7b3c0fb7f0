"""Logit-weighted pressure of sampled queries and keys, at the end of the long pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.diagnostics.frame import Chunk, Frame
from qroar_core.diagnostics.pressure.measure import LogitPressureMeter
from qroar_core.maths.positions import Sampled, log_spaced
from qroar_core.maths.pressure import attention_factor_slope, frequency_slope
from qroar_core.models.rope import Turning

SAMPLED_KEYS = 48  # keys per query row


@dataclass(slots=True, eq=False)
class PressureRecorder:
    """Logit-weighted pressure of every layer that turns."""

    frame: Frame
    turnings: Sequence[Turning]
    rows: Sampled
    meters: list[LogitPressureMeter | None] = field(init=False)
    slopes: dict[int, tuple[Tensor, float]] = field(default_factory=dict)  # d omega and d ln a by d ln s, by layer

    def __post_init__(self) -> None:
        self.meters = [None] * self.frame.geometry.n_layers
        for turning in self.turnings:
            slope = frequency_slope(turning.at), attention_factor_slope(turning.at)
            self.slopes |= dict.fromkeys(turning.group.layers, slope)

    def on_chunk(self, chunk: Chunk) -> None:
        """Once all keys are there, count the sampled queries against sampled ones."""
        tap, q = chunk.tap, chunk.sampled_q
        if q is None or tap.layer not in self.slopes:
            return
        slope, factor_slope = self.slopes[tap.layer]
        geo = self.frame.geometry
        meter = LogitPressureMeter(
            slope, geo.n_kv_heads, scaling=tap.scaling, pairing=geo.pairing, factor_slope=factor_slope,
            window=tap.rule.window,
        )  # fmt: skip
        self.meters[tap.layer] = meter
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
