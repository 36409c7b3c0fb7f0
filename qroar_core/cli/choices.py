"""Options that take one of a few words, and those words: what is checked, refused and shown in --help."""

from __future__ import annotations

from typing import get_args, get_type_hints

from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.readers import runnable
from qroar_core.specs import (
    ERROR_METRICS,
    OBJECTIVES,
    ROPE_METHODS,
    SEARCH_METHODS,
    Bos,
    DistanceLaw,
    Granularity,
    Mode,
    OutlierRule,
    Partition,
    QuantizerSpec,
    Sampler,
    ScaleAxis,
    WeightQuantSpec,
)
from qroar_core.specs.layers import Sensitivity
from qroar_core.specs.tradeoff import LOSSES

CHOICES: dict[str, tuple[str, ...]] = {
    "rope": ROPE_METHODS,
    "weight_scale": get_args(get_type_hints(WeightQuantSpec)["scale"]),
    "kv_scale": get_args(ScaleAxis),
    "kv_rotation": get_args(get_type_hints(QuantizerSpec)["rotation"]),
    "partition": get_args(Partition),
    "granularity": get_args(Granularity),
    "mode": get_args(Mode),
    "objective": OBJECTIVES,
    "error_metric": ERROR_METRICS,
    "method": SEARCH_METHODS,
    "sampler": get_args(Sampler),
    "format": tuple(FORMATS),
    "runtime": runnable(),
    "outlier_rule": get_args(OutlierRule),
    "distance_law": get_args(DistanceLaw),
    "bos": get_args(Bos),
    "sensitivity": get_args(Sensitivity),
    "loss": tuple(LOSSES),
}
