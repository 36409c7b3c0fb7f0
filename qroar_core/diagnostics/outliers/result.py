"""Outlier channels, as the file keeps them."""

from __future__ import annotations

from collections.abc import Iterator
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
    # `mass_moved` of the same; empty: an older file
    mass_moved_null: Annotated[dict[str, LayerBand], axes("layer", "kv_head")] = {}
    matrices: dict[str, MatrixByRule] = {}  # "W_Q", "W_K"
    # of all layers and heads at once: mean, least and greatest over draws
    share_null: Annotated[dict[str, PerBand], axes("summary")] = {}

    def sizes(self) -> Sizes:
        """Lengths that are known beforehand."""
        return {"summary": (3, "mean, least and greatest")}

    def contradictions(self) -> Iterator[str]:
        """A rule that is none, tables of other tensors than their neighbours'."""
        if self.rule not in ("iqr", "mad", "percentile"):
            yield f"rule: {self.rule[:20]!r}"
        for one, other in (("jaccard", "mass_moved"), ("count", "magnitude")):
            if getattr(self, one).keys() != getattr(self, other).keys():
                yield f"{one} and {other}: not of the same tensors"
        pairs = [(one, "jaccard") for one in ("jaccard_null", "mass_moved_null", "stand_out")]
        for one, within in (*pairs, ("share_null", "stand_out")):
            if not getattr(self, one).keys() <= getattr(self, within).keys():
                yield f"{one}: of a tensor that {within} does not have"
        if not self.jaccard.keys() | self.count.keys() <= WORDS.keys():
            yield f"jaccard or count: not of the tensors {', '.join(WORDS)}"
        for matrix, of in self.matrices.items():
            if of.error_share.keys() != of.column_error_share.keys() or not _of_both_widths(of.error_share):
                yield f"matrices.{matrix}: not the same quantizers, of 8 and of 4 bits, for rows and columns"

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
    still_exact: int = 0  # newest keys that the cache still holds exactly at the end: not in the error "in force"
    disjoint: bool = True  # False: the short context is the whole one, so nothing late is held against it
    sample: Sample | None = None

    def contradictions(self) -> Iterator[str]:
        """Also maps of other tensors and matrices than the rules speak of."""
        yield from OutliersByRule.contradictions(self)
        if not {"k/post"} <= self.maps.keys() <= WORDS.keys():
            yield f"maps: not of the tensors {', '.join(WORDS)}"
        if not self.error_share:
            yield "error_share: nothing in it"
        for rule in (self, *self.others):
            if rule.matrices.keys() != self.matrix_maps.keys():
                yield "matrices: not those of matrix_maps"
            elif any(rule.matrices[name].error_share.keys() != kept.error_by_channel.keys()
                     for name, kept in self.matrix_maps.items()):  # fmt: skip
                yield "matrices: not the quantizers of matrix_maps"

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
                        control="the same positions split at random into two groups of the same sizes")
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


def _of_both_widths(quantizers: dict[str, LayerBand]) -> bool:
    """Names such as `int8 per tensor`, some of either width; beside them the setting's own."""
    named = quantizers.keys() - {"in force"}
    return {name.partition(" ")[0] for name in named if name.partition(" ")[2]} == {"int8", "int4"}


def _called(quantizer: str) -> str:
    return "the setting's quantizer" if quantizer == "in force" else quantizer


def mean_of(table: LayerBand) -> Number:
    """Mean over what is known."""
    known = [v for row in table for v in row if v is not None]
    return sum(known) / len(known) if known else None
