"""The quantizer as it is, which every other remedy is measured against."""

from __future__ import annotations

from qroar_core.remedies.remedy import FREE, Remedy

REMEDY = Remedy("no remedy", 0, "", FREE, "nothing", "round to nearest", lambda quant: quant)
