"""What rounding each band alone does to the next token: to second order, from one backward pass a probe."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.diagnostics.measurement import Measurement
from qroar_core.diagnostics.outliers.observe import PROBES
from qroar_core.diagnostics.tensor_lists import listed
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.sensitivity import second_order_kl
from qroar_core.progress import OnStep, no_progress
from qroar_core.result import LayerBand
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales

TOKENS = 1024  # of the long context, from its start: a backward pass keeps what grows with the square of the length


def output_costs(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    ids: Tensor,
    measurement: Measurement,
    on_step: OnStep = no_progress,
) -> tuple[dict[str, LayerBand], int]:
    """Probe -> [layer][part] KL(exact || rounded) of the next token, nats per token, and the tokens it was counted on.

    Args:
        ids: (L,), the long context.
    """
    window, count = ids[:TOKENS], len(measurement.bands)
    band = measurement.channel_band
    of_channel = torch.where(band >= 0, band, count).repeat(measurement.geometry.n_layers, 1)
    of_channel[list(measurement.geometry.without_rope)] = count
    channels = torch.nn.functional.one_hot(of_channel, count + 1).sum(1)  # (layers, parts)
    found = {}
    for name, spec in PROBES.items():
        condition = Condition(rope, QuantSpec(k=spec), scales)
        kl = second_order_kl(loaded, condition, window[None], of_channel, seed=measurement.spec.seed, on_step=on_step)
        kl = torch.nn.functional.pad(kl, (0, count + 1 - kl.shape[1]))
        found[name] = listed(kl.masked_fill(channels == 0, torch.nan))
    return found, len(window)
