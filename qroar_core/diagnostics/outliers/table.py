"""From channel maps and errors to the outliers of the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qroar_core.diagnostics.outliers.entries import EDGES, Entries, EntryMeter
from qroar_core.diagnostics.outliers.measure import ChannelMaps, ChannelMeter, Deal
from qroar_core.diagnostics.outliers.result import Outliers, OutliersByRule
from qroar_core.diagnostics.outliers.rules import by_band, chance_count, offered, outlier_shift, standing_out
from qroar_core.diagnostics.outliers.weights import Matrix
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tensor_lists import MAP_DIGITS, listed, significant
from qroar_core.specs import DiagnosisSpec
from qroar_core.specs.outliers import parameter_in_force


def compared(early: slice, count: int) -> tuple[slice, slice] | None:
    """The bins of the short context, and as many at the end that do not overlap; None where nothing is left."""
    late = slice(max(early.stop, count - early.stop), count)
    return (early, late) if late.start < count else None


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Mean |x| of every channel of one tensor, (layers, heads, head_dim), over three sets of positions.

    dealt: the same of two groups dealt at random, (2, draws, layers, heads, head_dim).
    """

    early: Tensor
    late: Tensor
    whole: Tensor
    dealt: Tensor

    @classmethod
    def of(cls, found: Sequence[ChannelMaps], deal: Deal | None) -> Channels:
        """Of every layer's maps."""
        whole = torch.stack([f.mean_over(slice(None)) for f in found])
        if deal is None:
            none = torch.full_like(whole, torch.nan)
            return cls(none, none, whole, none.expand(2, 1, *whole.shape))
        early, late = (torch.stack([f.mean_over(at) for f in found]) for at in (deal.early, deal.late))
        return cls(early, late, whole, torch.stack([f.dealt for f in found if f.dealt is not None], 2))


def outliers_of(
    sides: Mapping[str, Sequence[ChannelMeter]],
    errors: Sequence[EntryMeter],
    own: Sequence[EntryMeter],
    deal: Deal | None,
    band_of_channel: Tensor,
    spec: DiagnosisSpec,
    still: Sequence[int] = (),
    matrices: Mapping[str, Matrix] | None = None,
    no_matrices: str = "",
    still_exact: int = 0,
    of_quantized_model: bool = False,
) -> Outliers:
    """Channel maps, how outlier channels move, and what share of the error outliers carry.

    Args:
        sides: "k/post" and so on -> the channel maps of every layer.
        errors: of the probes, of every layer.
        own: of the setting's quantizers, on the keys that they are given; empty where they round none.
        deal: the early and the late bins, and their positions dealt at random; None: there is nothing late.
        still: layers without RoPE, which have no bands.
        matrices: W_Q and W_K; or why they are not there.
        still_exact: newest keys that the cache still holds exactly at the end.
        of_quantized_model: whether `own` is of the keys of a model with quantized weights.
    """
    matrices = matrices or {}
    maps, channels, peaks, values = {}, {}, {}, {}
    for side, meters in sides.items():
        found = [meter.result() for meter in meters]
        maps[side] = listed(significant(torch.stack([f.maximum for f in found]), MAP_DIGITS))
        channels[side] = Channels.of(found, deal)
        peaks[side] = listed(significant(torch.stack([f.normal_peak() for f in found])))
        values[side] = found[0].values
    entries, mine_alone = ([meter.result() for meter in meters] for meters in (errors, own))
    asked = spec.outlier_rule, parameter_in_force(spec.outlier_rule, spec.outlier_parameter)
    others = [
        by_rule(channels, entries, mine_alone, band_of_channel, *rule, still).model_copy(
            update={"matrices": {name: m.by_rule(band_of_channel, *rule, still) for name, m in matrices.items()}}
        )
        for rule in offered(*asked)
    ]
    mine = next(found for found in others if (found.rule, found.parameter) == asked)
    tokens = next(iter(sides.values()))[0].bins.length
    return Outliers(
        **dict(mine),
        maps=maps,
        peak_null=peaks,
        peak_values=values,
        others=others,
        error_by_channel={
            name: listed(significant(_channel_shares(of, at)))
            for of in (entries, mine_alone)
            for at, name in enumerate(of[0].variants if of else ())
        },
        error_spread={
            name: listed(torch.tensor([one.spread_by_chance(at) for one in of]))
            for of in (entries, mine_alone)
            for at, name in enumerate(of[0].variants if of else ())
        },
        matrix_maps={name: matrix.map() for name, matrix in matrices.items()},
        by_query_head=True,
        no_matrices=no_matrices,
        still_exact=still_exact,
        of_quantized_model=of_quantized_model,
        disjoint=deal is not None,
        sample=Sample(tokens=tokens, seed=spec.seed, error=_draws_words(spec.null_draws) if deal else ""),
    )


def _draws_words(draws: int) -> str:
    return f"the null was drawn {'once' if draws == 1 else f'{draws} times'}"


def by_rule(
    channels: Mapping[str, Channels],
    entries: Sequence[Entries],
    own: Sequence[Entries],
    band_of_channel: Tensor,
    rule: str,
    parameter: float,
    still: Sequence[int],
) -> OutliersByRule:
    """Everything that one rule says."""
    fields: dict[str, dict[str, Any]] = {
        name: {}
        for name in (
            "jaccard",
            "mass_moved",
            "stand_out",
            "jaccard_null",
            "mass_moved_null",
            "share_null",
            "count",
            "magnitude",
        )
    }
    for side, of in channels.items():
        shift, null = (outlier_shift(a, b, rule, parameter) for a, b in ((of.early, of.late), of.dealt))
        for name, value in (
            ("jaccard", shift.jaccard),
            ("mass_moved", shift.mass_moved),
            ("stand_out", shift.either),
            ("jaccard_null", null.jaccard.nanmean(0)),
            ("mass_moved_null", null.mass_moved.nanmean(0)),
        ):
            fields[name][side] = listed(value)
        share = null.both.sum((1, 2)) / null.either.sum((1, 2))  # (draws,)
        fields["share_null"][side] = listed(torch.stack((share.mean(), share.min(), share.max())))
        bands = [standing_out(m, band_of_channel, rule, parameter) for m in of.whole]
        count, magnitude = (torch.stack(values) for values in zip(*bands))
        fields["count"][side], fields["magnitude"][side] = (_turning(v, still) for v in (count, magnitude))
    error_share, entry_share, entry_limit = _of_entries(entries, rule, parameter, still)
    own_error, own_share, own_limit = _of_entries(own, rule, parameter, still) if own else ({}, [], [])
    chance, spread = chance_count(len(band_of_channel), rule, parameter)
    share = by_band(torch.ones(len(band_of_channel)), band_of_channel) / len(band_of_channel)
    inside = float(share.sum())  # of a head's channels that turn: its count is thinned to them
    return OutliersByRule(
        rule=rule,
        parameter=parameter,
        error_share=error_share | own_error,
        entry_share=entry_share,
        entry_limit=entry_limit,
        entry_share_in_force=own_share,
        entry_limit_in_force=own_limit,
        by_chance=listed(chance * share),
        by_chance_spread=math.sqrt(inside**2 * spread**2 + inside * (1 - inside) * chance),
        **fields,
    )


def _of_entries(
    entries: Sequence[Entries], rule: str, parameter: float, still: Sequence[int]
) -> tuple[dict[str, list], list, list]:
    """Of every layer's entries: outliers' share of each quantizer's error and of the entries, and their limit."""
    limits = [e.limits(rule, parameter) for e in entries]
    error, share = (np.stack(tables, -2) for tables in zip(*(e.shares(at) for e, at in zip(entries, limits))))
    return (
        {name: _turning(torch.from_numpy(error[at]), still) for at, name in enumerate(entries[0].variants)},
        _turning(torch.from_numpy(share), still),
        listed(significant(torch.from_numpy(EDGES[np.array(limits)]))),
    )


def _turning(table: Tensor, still: Sequence[int]) -> list:
    """A table [layer][band] with None for layers without RoPE."""
    kept = table.clone()
    kept[list(still)] = torch.nan
    return listed(significant(kept))


def _channel_shares(entries: Sequence[Entries], variant: int) -> Tensor:
    """Part of a layer's error that every channel carries, over all heads, (layers, head_dim)."""
    by_channel = torch.stack([e.by_channel[variant].sum(0) for e in entries])
    return by_channel / by_channel.sum(-1, keepdim=True)
