"""From the meter to the similarity of the result."""

from __future__ import annotations

import torch

from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.similarity.measure import SimilarityMeter, decibels
from qroar_core.diagnostics.similarity.result import EXACT_DB, Accumulation, HiddenSimilarity
from qroar_core.diagnostics.tensor_lists import listed

BAND = 2  # standard errors on either side
ERROR_BAR_WORDS = "bars and bands are 2 standard errors over the sampled rows"


def similarity_of(meter: SimilarityMeter, seed: int | None = None) -> HiddenSimilarity:
    """Cosine and SQNR of every layer's output by position bin, and what each layer adds to the error."""
    found = meter.result()
    low, high = (found.overall[:, None] + sign * BAND * found.null_se for sign in (1, -1))
    # what float arithmetic leaves where nothing was rounded is no spread
    se = torch.where(decibels(found.error) == EXACT_DB, 0.0, BAND * found.error_se)
    inherited, added, cross = found.layer_parts
    chance = BAND * found.cosine_null_se
    return HiddenSimilarity(
        cosine=listed(found.cosine),
        cosine_null=listed(found.cosine_null),
        cosine_null_low=listed((found.cosine_null - chance).clamp(min=-1)),
        cosine_null_high=listed((found.cosine_null + chance).clamp(max=1)),
        sqnr_db=listed(decibels(found.error)),
        sqnr_low=listed(decibels(found.error + se)),
        sqnr_high=listed(decibels(found.error - se)),
        pooled_sqnr_db=listed(decibels(found.pooled)),
        layer_sqnr_db=listed(decibels(found.overall)),
        null_low=listed(decibels(low)),
        null_high=listed(decibels(high)),
        accumulation=Accumulation(
            inherited=listed(inherited),
            added=listed(added),
            cross=listed(cross),
            cross_null=listed(BAND * found.cross_null_se),
            share_added=listed(found.share),
            share_added_error=listed(BAND * found.share_se),
            inherited_by_bin=listed(found.inherited),
            added_by_bin=listed(found.added),
            cross_by_bin=listed(found.cross),
        ),
        sample=Sample(
            tokens=meter.bins.length, rows=found.rows, rows_of="rows of hidden states", seed=seed, error=ERROR_BAR_WORDS
        ),
    )
