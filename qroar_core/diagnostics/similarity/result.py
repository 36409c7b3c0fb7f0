"""Similarity of hidden states, as the file keeps it."""

from __future__ import annotations

from qroar_core.result import Number, Result


class HiddenSimilarity(Result):
    """Each layer's output, reference against quantized, [layer][bin]."""

    cosine: list[list[Number]]
    sqnr_db: list[list[Number]]
