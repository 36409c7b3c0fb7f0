"""Outlier channels, as the file keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.outliers.result_chance import Reach, largest_normal, peak_of_normal
from qroar_core.diagnostics.outliers.result_matrices import MatrixByRule, MatrixMap
from qroar_core.diagnostics.outliers.result_uneven import OF_INPUTS, OF_VECTORS, called, uneven_rows
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tail_inflation.result import TENSORS
from qroar_core.result import LayerBand, Number, PerBand, Result
from qroar_core.result_shapes import ANY, Sizes, axes
from qroar_core.specs import OUTLIER_RULES

HEAD = "head of {}"  # KV heads of K; query heads of Q, in an older file pooled into the KV head that they read
ALIKE = "all channels of a head, or rows, drawn from one normal distribution; 2 standard deviations"
POOLED = " This file is older: query heads that read one KV head are pooled here and count as one head."


class OutliersByRule(Result):
    """What one rule with one parameter calls outliers; dictionaries are by tensor, "k/post" and so on."""

    rule: str  # iqr, mad or percentile
    parameter: float | None = None  # fence, modified z-score or quantile; None: an older file, the rule's usual one
    # "k/post" -> [layer][head]; None: no channel stands out, early or late
    jaccard: Annotated[dict[str, LayerBand], axes("layer", HEAD)]
    mass_moved: Annotated[dict[str, LayerBand], axes("layer", HEAD)]
    error_share: dict[str, LayerBand]  # "int8", "int4", "in force" -> [layer][band]; None without rotation
    entry_share: LayerBand  # [layer][band], of all keys of the unquantized model, as int8 and int4 are
    # |k| above which an entry counts, [layer][kv_head]
    entry_limit: Annotated[LayerBand, axes("layer", "kv_head")] = []
    # of the keys that the quantizers "in force" round, and of all keys of their model; empty: none, or an older file
    entry_share_in_force: LayerBand = []
    entry_limit_in_force: Annotated[LayerBand, axes("layer", "kv_head")] = []
    count: dict[str, LayerBand] = {}  # [layer][band]: outlier channels of all heads, over the whole context
    magnitude: dict[str, LayerBand] = {}  # [layer][band]: mean |x| of the largest over its head's median channel
    # [layer][head]: channels that stand out early or late, or both
    stand_out: Annotated[dict[str, LayerBand], axes("layer", HEAD)] = {}
    # `jaccard` of positions dealt at random, mean over draws
    jaccard_null: Annotated[dict[str, LayerBand], axes("layer", HEAD)] = {}
    # `mass_moved` of the same; empty: an older file
    mass_moved_null: Annotated[dict[str, LayerBand], axes("layer", HEAD)] = {}
    matrices: dict[str, MatrixByRule] = {}  # "W_Q", "W_K"
    # outlier channels of one head in each band by chance, were its channels, or rows, alike; empty: an older file
    by_chance: Annotated[PerBand, axes("band")] = []
    by_chance_spread: Number = None  # standard deviation of one head's number in all bands
    # of all layers and heads at once: mean, least and greatest over draws
    share_null: Annotated[dict[str, PerBand], axes("summary")] = {}

    def sizes(self) -> Sizes:
        """Lengths that are known beforehand."""
        return {"summary": (3, "mean, least and greatest")}

    def contradictions(self) -> Iterator[str]:
        """A rule that is none, tables of other tensors than their neighbours'."""
        if self.rule not in OUTLIER_RULES:
            yield f"rule: {self.rule[:20]!r}"
        for one, other in (("jaccard", "mass_moved"), ("count", "magnitude")):
            if getattr(self, one).keys() != getattr(self, other).keys():
                yield f"{one} and {other}: not of the same tensors"
        pairs = [(one, "jaccard") for one in ("jaccard_null", "mass_moved_null", "stand_out")]
        for one, within in (*pairs, ("share_null", "stand_out")):
            if not getattr(self, one).keys() <= getattr(self, within).keys():
                yield f"{one}: of a tensor that {within} does not have"
        if self.entry_share_in_force and "in force" not in self.error_share:
            yield "entry_share_in_force: of no quantizer"
        if not self.jaccard.keys() | self.count.keys() <= TENSORS.keys():
            yield f"jaccard or count: not of the tensors {', '.join(TENSORS)}"
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

    # "k/post" -> [layer][head][channel][bin], four significant digits
    maps: Annotated[dict[str, list[list[list[PerBand]]]], axes("layer", HEAD, "channel", "bin")]
    # the same by other rules and parameters, the asked one among them
    others: Annotated[list[OutliersByRule], axes(ANY)] = []
    # of K: quantizer -> [layer][channel], part of the layer's error
    error_by_channel: Annotated[dict[str, LayerBand], axes("layer", "channel")] = {}
    # quantizer -> [layer], standard deviation of a channel's part over an even one, were every vector's errors dealt to
    # its channels at random; empty: an older file
    error_spread: Annotated[dict[str, PerBand], axes("layer")] = {}
    # largest |x| of normal values of a head's RMS, median over draws; empty: an older file
    peak_null: Annotated[dict[str, LayerBand], axes("layer", HEAD)] = {}
    peak_values: dict[str, int] = {}  # how many values of a head that is of; empty: an older file
    matrix_maps: dict[str, MatrixMap] = {}  # "W_Q", "W_K"
    by_query_head: bool = False  # False: an older file, where Q is pooled over query heads that read one KV head
    no_matrices: str = ""  # why W_Q and W_K are not there
    still_exact: int = 0  # newest keys that the cache still holds exactly at the end: not in the error "in force"
    of_quantized_model: bool = False  # whether the keys "in force" are those of the model with quantized weights
    disjoint: bool = True  # False: the short context is the whole one, so nothing late is held against it
    sample: Sample | None = None

    def contradictions(self) -> Iterator[str]:
        """Also maps of other tensors and matrices than the rules speak of."""
        yield from OutliersByRule.contradictions(self)
        if not {"k/post"} <= self.maps.keys() <= TENSORS.keys():
            yield f"maps: not of the tensors {', '.join(TENSORS)}"
        if not self.error_share:
            yield "error_share: nothing in it"
        for which, matrix in ((which, f"W_{which[0].upper()}") for which in self.maps if self.by_query_head):
            if matrix in self.matrix_maps and self.heads_of(which) != self.heads_of(matrix):
                yield f"maps.{which}: not of the heads of {matrix}"
        for rule in (self, *self.others):
            if rule.matrices.keys() != self.matrix_maps.keys():
                yield "matrices: not those of matrix_maps"
            elif any(
                rule.matrices[name].error_share.keys() != kept.error_by_channel.keys()
                for name, kept in self.matrix_maps.items()
            ):
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

    def null_of(self, quantizer: str) -> LayerBand:
        """The share of outliers among the entries that a quantizer's error is of, [layer][band]."""
        return self.entry_share_in_force if quantizer == "in force" and self.entry_share_in_force else self.entry_share

    @property
    def which_keys(self) -> str:
        """The keys that the error "in force" is of, where they are not those of int8 and int4; else empty."""
        if not self.entry_share_in_force:
            return ""
        whose = "keys of the quantized model" if self.of_quantized_model else "keys"
        if self.still_exact:
            return f"{whose} that the context's last query reads rounded (all but the newest {self.still_exact:,})"
        return f"{whose}, as its quantizer is given them" if self.of_quantized_model else ""

    def heads_of(self, name: str) -> int:
        """Heads of a tensor ("k/post") or of a matrix ("W_Q")."""
        return len(self.matrix_maps[name].rows[0]) if name in self.matrix_maps else len(self.maps[name][0])

    def head_word(self, which: str) -> str:
        """What the heads of a tensor ("q/post") are."""
        return "query head" if which.startswith("q") and self.by_query_head else "KV head"

    def pooled(self, which: str) -> str:
        """What captions say of Q in an older file; nothing where every head is counted by itself."""
        rows = self.matrix_maps["W_Q"].rows[0] if "W_Q" in self.matrix_maps else None
        alone = self.by_query_head or not which.startswith("q") or (rows and len(rows) == len(self.maps[which][0]))
        return "" if alone else POOLED

    def times_normal(self, which: str) -> Number:
        """The largest |x| over that of normal values of its head's RMS, largest over layers and heads."""
        found = [
            max((v for channel in head for v in channel if v is not None), default=0.0) / null
            for heads, nulls in zip(self.maps[which], self.peak_null.get(which, []))
            for head, null in zip(heads, nulls, strict=True)
            if null
        ]
        return max(found, default=None)

    def peak_by_chance(self, which: str, layers: Sequence[int]) -> Reach | None:
        """The largest |x| of these layers, were the values of each head normal with its RMS; None in an older file."""
        values = self.peak_values.get(which)
        if values is None:
            return None
        return largest_normal(
            (null / peak_of_normal(values) for i in layers for null in self.peak_null[which][i] if null), values
        )

    def largest_of(self, which: str) -> float:
        """The largest |x| of all layers and heads."""
        return max(
            (v for heads in self.maps[which] for z in heads for row in z for v in row if v is not None), default=0.0
        )

    def _times_normal_row(self, which: str) -> NullRow:
        """The same of every head over its own median: a maximum over all of them."""
        values, heads = self.peak_values.get(which), sum(1 for row in self.peak_null[which] for null in row if null)
        chance = largest_normal([1 / peak_of_normal(values)] * heads, values) if values else None
        return NullRow(
            diagnostic="Outliers",
            quantity=f"largest |x| of {TENSORS[which]} over that of normal values, largest over layers and heads",
            measured=self.times_normal(which),
            null=chance.median if chance else None,
            low=chance.low if chance else None,
            high=chance.high if chance else None,
            control="normal values, as many as each head has: the same maximum, its median and central 95 %"
            if chance
            else "this file is from before 2026-11-29: it does not know how many values a head has",
        )

    def _by_chance(self, name: str, what: str, count: LayerBand) -> NullRow:
        turning = [row for row in count if any(v is not None for v in row)]
        heads = self.heads_of(name) * len(turning)
        mean = heads * sum(v or 0.0 for v in self.by_chance)
        off = 2 * math.sqrt(heads) * (self.by_chance_spread or 0.0)
        return NullRow(
            diagnostic="Outliers",
            quantity=f"{what} that stand out, all layers and heads",
            measured=sum(v or 0.0 for row in turning for v in row),
            null=mean,
            low=max(0.0, mean - off),
            high=mean + off,
            control=ALIKE,
        )

    def null_rows(self) -> list[NullRow]:
        """Outlier channels early and late, and the error of outlier entries, each beside chance."""
        rows = []
        if self.by_chance:
            rows += [self._by_chance(which, f"channels of {TENSORS[which]}", at) for which, at in self.count.items()]
            rows += [self._by_chance(name, f"rows of {name}", of.count) for name, of in self.matrices.items()]
        rows += [self._times_normal_row(which) for which in self.peak_null]
        if self.by_chance:
            for name, kept in self.matrix_maps.items():
                chance = kept.by_chance(len(kept.rows))
                rows.append(
                    NullRow(
                        diagnostic="Outliers",
                        quantity=f"largest row of {name} over its head's median row, largest over layers and heads",
                        measured=max(kept.times_median(kept.loudest_layer()))[0],
                        null=chance.median,
                        low=chance.low,
                        high=chance.high,
                        control="normal weights, as many heads and rows: the same maximum, its median and central 95 %",
                    )
                )
        rows += uneven_rows("K's error", self.error_by_channel, self.error_spread, OF_VECTORS)
        for name, kept in self.matrix_maps.items():
            rows += uneven_rows(f"the error of {name}", kept.error_by_channel, kept.error_spread, OF_INPUTS)
        rows += [
            NullRow(
                diagnostic="Outliers",
                measured=self.share_of_both(which),
                null=mean,
                low=low,
                high=high,
                quantity=f"of the channels of {TENSORS[which]} that stand out early or late, the share of both",
                control="the same positions split at random into two groups of the same sizes",
            )
            for which, (mean, low, high) in self.share_null.items()
        ]
        for name, shares in self.error_share.items() if self.sample is not None else ():
            which = self.which_keys if name == "in force" else ""
            rows.append(
                NullRow(
                    diagnostic="Outliers",
                    measured=mean_of(shares),
                    null=mean_of(self.null_of(name)),
                    quantity=f"{called(name)}: share of K's error on outlier entries, mean over layers and bands"
                    + (f", of the {which}" if which else ""),
                    control="as many entries chosen at random" + (", of the same keys" if which else ""),
                )
            )
        for matrix, of in self.matrices.items():
            for name, shares in of.error_share.items():
                rows.append(
                    NullRow(
                        diagnostic="Outliers",
                        measured=mean_of(shares),
                        null=mean_of(of.row_share),
                        quantity=f"{matrix}, {called(name)}: share of the weights' error on outlier rows, mean "
                        "over layers and bands",
                        control="as many rows chosen at random",
                    )
                )
        return rows


def _of_both_widths(quantizers: dict[str, LayerBand]) -> bool:
    """Names such as `int8 per tensor`, some of either width; beside them the setting's own."""
    named = quantizers.keys() - {"in force"}
    return {name.partition(" ")[0] for name in named if name.partition(" ")[2]} == {"int8", "int4"}


def mean_of(table: LayerBand) -> Number:
    """Mean over what is known."""
    known = [v for row in table for v in row if v is not None]
    return sum(known) / len(known) if known else None
