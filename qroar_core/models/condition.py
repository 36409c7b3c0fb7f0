"""What a model runs under: which interpolation, which quantizers, which scales."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True, eq=False)
class StaticRange:
    """Calibrated absmax per layer of quantizers with one static scale; None where not needed."""

    k: Tensor | None = None  # (layers,)
    v: Tensor | None = None
    q: Tensor | None = None  # the qk activation quantizer on queries
    k_active: Tensor | None = None  # ... and on keys


@dataclass(frozen=True, slots=True, eq=False)
class ClipRatios:
    """The share of each range that a cache's quantizers keep, in (0, 1]; what lies beyond saturates. None: all of it.

    k, v: (layers, n_kv_heads), on the host.
    """

    k: Tensor | None = None
    v: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What the model runs under.

    `quantized_channels` (bool, (layers, head_dim), on the model's device) leaves K and the q and k activations of all
    other channels exact after rounding: steps are still those of the whole vector. None: every channel is rounded.
    """

    rope: RopeSpec = RopeSpec()
    quant: QuantSpec = QuantSpec()
    scales: Scales | None = None
    static: StaticRange | None = None
    quantized_channels: Tensor | None = None
    clip: ClipRatios = ClipRatios()
