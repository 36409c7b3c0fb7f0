"""W_Q and W_K, as the file keeps them: sizes of rows and columns, and what a rule calls outliers among them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from qroar_core.diagnostics.outliers.result_chance import Reach, largest_row, times_median
from qroar_core.result import LayerBand, Number, PerBand, Result
from qroar_core.result_shapes import axes


class MatrixMap(Result):
    """W_Q or W_K whatever the rule."""

    LOCAL: ClassVar = ("head", "column")

    # [layer][head][channel], mean |w| of an output row
    rows: Annotated[list[LayerBand], axes("layer", "head", "channel")]
    columns: Annotated[LayerBand, axes("layer", "column")]  # [layer][column], mean |w| of an input column
    # quantizer -> [layer][channel], part of the matrix's rounding error
    error_by_channel: Annotated[dict[str, LayerBand], axes("layer", "channel")]
    # quantizer -> [layer], standard deviation of a channel's part over an even one, were errors dealt to channels at
    # random; empty: an older file
    error_spread: Annotated[dict[str, PerBand], axes("layer")] = {}

    def times_median(self, layer: int) -> list[tuple[float, int]]:
        """Of every head: its largest row over its median one, and that row's channel."""
        return [times_median(head) for head in self.rows[layer]]

    def loudest_layer(self) -> int:
        """The layer whose largest row stands out most from its head's median row."""
        return max(range(len(self.rows)), key=lambda i: max(self.times_median(i)))

    def by_chance(self, layers: int) -> Reach:
        """That row over the median one, largest over as many layers, were the weights of a head normal and alike."""
        heads = self.rows[0]
        return largest_row(layers * len(heads), len(heads[0]), len(self.columns[0]))


class MatrixByRule(Result):
    """Outlier rows and columns of W_Q or W_K; [layer][band] of rows, [layer] of columns."""

    count: LayerBand  # outlier rows of all heads
    magnitude: LayerBand  # mean |w| of the largest over its head's median row
    row_share: LayerBand  # outlier rows over all
    error_share: dict[str, LayerBand]  # quantizer -> part of the band's rounding error on outlier rows
    columns: Annotated[PerBand, axes("layer")]  # outlier columns
    column_share: Annotated[PerBand, axes("layer")]  # over all
    # quantizer -> part of the rounding error on outlier columns
    column_error_share: Annotated[dict[str, PerBand], axes("layer")]
    columns_by_chance: Number = None  # outlier columns of a layer, were they alike; None: an older file
