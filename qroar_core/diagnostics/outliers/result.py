"""Outlier channels, as the file keeps them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from qroar_core.axes import ANY, Sizes, axes
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tails.result import WORDS
from qroar_core.result import LayerBand, Number, PerBand, Result


class MatrixMap(Result):
    """W_Q or W_K whatever the rule."""

    LOCAL: ClassVar = ("head", "column")

    # [layer][head][channel], mean |w| of an output row
    rows: Annotated[list[LayerBand], axes("layer", "head", "channel")]
    columns: Annotated[LayerBand, axes("layer", "column")]  # [layer][column], mean |w| of an input column
    # quantizer -> [layer][channel], part of the matrix's rounding error
    error_by_channel: Annotated[dict[str, LayerBand], axes("layer", "channel")]


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


class OutliersByRule(Result):
    """What one rule with one parameter calls outliers; dictionaries are by tensor, "k/post" and so on."""

    rule: str  # iqr, mad or percentile
    parameter: float | None = None  # fence, modified z-score or quantile; None: an older file, the rule's usual one
    # "k/post" -> [layer][kv_head]; None: no channel stands out, early or late
    jaccard: Annotated[dict[str, LayerBand], axes("layer", "kv_head")]
    mass_moved: Annotated[dict[str, LayerBand], axes("layer", "kv_head")]
    error_share: dict[str, LayerBand]  # "int8", "int4", "in force" -> [layer][band]; None without rotation
    entry_share: LayerBand  # [layer][band]
    # |k| above which an entry counts, [layer][kv_head]
    entry_limit: Annotated[LayerBand, axes("layer", "kv_head")] = []
    count: dict[str, LayerBand] = {}  # [layer][band]: outlier channels of all KV heads, over the whole context
    magnitude: dict[str, LayerBand] = {}  # [layer][band]: mean |x| of the largest over its head's median channel
    # [layer][kv_head]: channels that stand out early or late, or both
    stand_out: Annotated[dict[str, LayerBand], axes("layer", "kv_head")] = {}
    # `jaccard` of positions dealt at random, mean over draws
    jaccard_null: Annotated[dict[str, LayerBand], axes("layer", "kv_head")] = {}
    matrices: dict[str, MatrixByRule] = {}  # "W_Q", "W_K"
    # of all layers and heads at once: mean, least and greatest over draws
    share_null: Annotated[dict[str, PerBand], axes("summary")] = {}

    def sizes(self) -> Sizes:
        """Lengths that are known beforehand."""
        return {"summary": (3, "mean, least and greatest")}

    def share_of_both(self, which: str) -> Number:
        """Of all channels that stand out early or late, the part that does both; None where none stands out."""
        if which not in self.stand_out:
            return None
        rows = zip(self.stand_out[which], self.jaccard[which], strict=True)
        known = [(n, j) for counts, shares in rows for n, j in zip(counts, shares) if n and j is not None]
        return sum(n * j for n, j in known) / sum(n for n, _ in known) if known else None


class Outliers(OutliersByRule):
    """Channel x position maps (largest |x|), and outliers by the rule that was asked for."""

    # "k/post" -> [layer][kv_head][channel][bin]
    maps: Annotated[dict[str, list[list[list[PerBand]]]], axes("layer", "kv_head", "channel", "bin")]
    # the same by other rules and parameters, the asked one among them
    others: Annotated[list[OutliersByRule], axes(ANY)] = []
    # of K: quantizer -> [layer][channel], part of the layer's error
    error_by_channel: Annotated[dict[str, LayerBand], axes("layer", "channel")] = {}
    matrix_maps: dict[str, MatrixMap] = {}  # "W_Q", "W_K"
    no_matrices: str = ""  # why W_Q and W_K are not there
    disjoint: bool = True  # False: the short context is the whole one, so nothing late is held against it
    sample: Sample | None = None

    def parameters(self, rule: str) -> list[float]:
        """Parameters of `rule` that this file can be shown under."""
        return [found.parameter for found in self.others if found.rule == rule and found.parameter is not None]

    def under(self, rule: str, parameter: float) -> Outliers:
        """The same maps with what another rule calls outliers.

        Raises:
            KeyError: this file was not counted under it.
        """
        for found in self.others:
            if (found.rule, found.parameter) == (rule, parameter):
                return self.model_copy(update=dict(found))
        raise KeyError(f"outliers were not counted by {rule} {parameter:g}")

    def null_rows(self) -> list[NullRow]:
        """Outlier channels early and late, and the error of outlier entries, each beside chance."""
        rows = []
        for which, (mean, low, high) in self.share_null.items():
            rows.append(
                NullRow(diagnostic="Outliers", measured=self.share_of_both(which), null=mean, low=low, high=high,
                        quantity=f"of the channels of {WORDS[which]} that stand out early or late, the share of both",
                        control="the same positions dealt at random to two groups of the same sizes")
            )  # fmt: skip
        for name, shares in self.error_share.items() if self.sample is not None else ():
            rows.append(
                NullRow(diagnostic="Outliers", measured=mean_of(shares), null=mean_of(self.entry_share),
                        quantity=f"{_called(name)}: share of K's error on outlier entries, mean over layers and bands",
                        control="as many entries chosen at random")
            )  # fmt: skip
        for matrix, of in self.matrices.items():
            for name, shares in of.error_share.items():
                rows.append(
                    NullRow(diagnostic="Outliers", measured=mean_of(shares), null=mean_of(of.row_share),
                            quantity=f"{matrix}, {_called(name)}: share of the weights' error on outlier rows, mean "
                            "over layers and bands", control="as many rows chosen at random")
                )  # fmt: skip
        return rows


def _called(quantizer: str) -> str:
    return "the setting's quantizer" if quantizer == "in force" else quantizer


def mean_of(table: LayerBand) -> Number:
    """Mean over what is known."""
    known = [v for row in table for v in row if v is not None]
    return sum(known) / len(known) if known else None
