"""What the stages are asked on the small models of families_table: text of their letters, specs within their window."""

from __future__ import annotations

from qroar_core.models.text import Document
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, SearchSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
TEXTS = dict.fromkeys(("calibration", "development", "heldout"), TEXT)
INT4 = QuantSpec(k=QuantizerSpec(4))
SMALL = DiagnosisSpec(length=80, short_length=8, paired_tokens=8, windows=3, eps=0.05, bands=BandSpec(2), chunk=33)
ASKED = SearchSpec(
    bands=BandSpec(2),
    length=48,
    windows=2,
    query_rows=8,
    steps=6,
    guard_tau=100.0,
    granularity="layer",
    pressure_weight=0.0,
)
