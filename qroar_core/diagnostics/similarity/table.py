"""From the meter to the similarity of the result."""

from __future__ import annotations

from qroar_core.diagnostics.listed import listed
from qroar_core.diagnostics.similarity.measure import SimilarityMeter
from qroar_core.diagnostics.similarity.result import HiddenSimilarity


def similarity_of(meter: SimilarityMeter) -> HiddenSimilarity:
    """Cosine and SQNR of every layer's output by position bin."""
    found = meter.result()
    return HiddenSimilarity(cosine=listed(found.cosine), sqnr_db=listed(found.sqnr_db))
