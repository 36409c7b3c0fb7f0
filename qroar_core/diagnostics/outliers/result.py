"""Outlier channels, as the file keeps them."""

from __future__ import annotations

from qroar_core.result import LayerBand, PerBand, Result


class Outliers(Result):
    """Channel x position maps (largest |x|) and how the outlier channels move from short to long."""

    maps: dict[str, list[list[list[PerBand]]]]  # "k/post" -> [layer][kv_head][channel][bin]
    rule: str
    jaccard: dict[str, LayerBand]  # "k/post" -> [layer][kv_head]
    mass_moved: dict[str, LayerBand]
    error_share: dict[str, LayerBand]  # "int8", "int4" -> [layer][band]
    entry_share: LayerBand  # [layer][band]
