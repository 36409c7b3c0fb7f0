"""AWQ: input channels that matter get finer steps."""

from __future__ import annotations

from qroar_core.remedies.remedy import FREE, READY, Remedy, where_weights_are_rounded_by_row

REMEDY = Remedy(
    "AWQ scale search",
    40,
    "weights",
    FREE,
    "nothing: scales inside the weights and what stands before them",
    "arXiv 2306.00978, section 3.2",
    where_weights_are_rounded_by_row,
    needs="weights with a scale per channel or per group",
    work=READY,
)
