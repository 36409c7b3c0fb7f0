"""What the cached objective may count as damage to attention: one file a metric, found by itself."""

from __future__ import annotations

from functools import cache

from qroar_core.maths.error_metric import ErrorMetric
from qroar_core.members import members_of
from qroar_core.specs import ERROR_METRICS


@cache
def error_metrics() -> dict[str, ErrorMetric]:
    """Name, as in `SearchSpec.error_metric` -> metric, in the order of menus."""
    return members_of(__name__, ERROR_METRICS, "METRIC")
