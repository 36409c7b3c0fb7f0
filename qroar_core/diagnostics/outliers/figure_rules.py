"""Outliers by a rule: how many in which band, whether they are the same ones far out, what they cost a quantizer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from qroar_core.diagnostics.outliers.figure_channels import band_of_channel, by_chance, channel_table, even_shares
from qroar_core.diagnostics.outliers.result import mean_of
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import PROPAGATED, which_errors
from qroar_core.diagnostics.tail_inflation.result import TENSORS
from qroar_core.figures.by_group import Draw
from qroar_core.figures.cache_by_result import once
from qroar_core.figures.heatmaps import Panel, Rows, side_by_side
from qroar_core.figures.picture import Picture, counted_on
from qroar_core.result import LayerBand
from qroar_core.specs import OUTLIER_RULES
from qroar_core.statistics.digits import largest

IN_FORCE = "in force"  # as the file calls the setting's own quantizers
ALONE = " Each layer's keys are those of the unquantized model: no error of earlier layers is in them."
RANDOM_SPLIT_NULL = "null: positions split at random"


@once
def seen(diagnosis: Diagnosis, rule: str, parameter: float) -> Diagnosis:
    """The same diagnosis with outliers by another rule that it was counted under."""
    return diagnosis.model_copy(update={"outliers": diagnosis.outliers.under(rule, parameter)})


def rule_words(diagnosis: Diagnosis) -> str:
    """For example: IQR, fence 1.5."""
    found = diagnosis.outliers
    return OUTLIER_RULES[found.rule].short + ("" if found.parameter is None else f" {found.parameter:g}")


@once
def counts(diagnosis: Diagnosis, which: str) -> Picture | None:
    """How many channels stand out in every band, and how far; None for an older file."""
    found = diagnosis.outliers
    if which not in found.count:
        return None
    return band_counts(
        diagnosis,
        found.count[which],
        found.magnitude[which],
        f"channels of {TENSORS[which]}",
        "channels",
        counted_on(found.sample, estimates=False),
        found.heads_of(which),
        "channels whose mean |x| over the whole context is an outlier among all channels of their head",
        found.pooled(which),
    )


def band_counts(
    diagnosis: Diagnosis,
    count: LayerBand,
    times: LayerBand,
    what: str,
    unit: str,
    sample: str,
    heads: int,
    meaning: str,
    pooled: str = "",
) -> Picture:
    """Outlier `what` by layer and band beside as many spread evenly over channels, and beside what chance gives."""
    width = [band_of_channel(diagnosis).count(b.index) for b in diagnosis.bands]
    shuffled = [[None if v is None else _total([row]) * w / sum(width) for v, w in zip(row, width)] for row in count]
    columns = [str(b.index) for b in diagnosis.bands]
    panels = [
        Panel(f"outlier {unit}", count, columns, "band", "band"),
        Panel("null: channels shuffled", shuffled, columns, "band", "band"),
    ]
    one = diagnosis.outliers.by_chance
    chance = [[None if v is None else heads * (c or 0.0) for v, c in zip(row, one)] for row in count] if one else []
    panels += [Panel("null: all channels alike", chance, columns, "band", "band")] if chance else []
    beside = f" ({_total(chance):.1f} by chance)" if chance else ""
    by_band = [_total([[row[b]] for row in count]) for b in range(len(columns))]
    total, most = sum(by_band), max(by_band, default=0.0)
    farthest = max((v for row in times for v in row if v is not None), default=None)
    title = f"None of the {what} stands out ({rule_words(diagnosis)}){beside}"
    if total:
        title = (
            f"{what[0].upper()}{what[1:]} that stand out: {total:.0f}{beside}, of which "
            f"{most:.0f} in band {by_band.index(most)}, by up to {largest(farthest)} times their head's median"
        )
    alike = (
        f" Right, the other null: how many the rule finds by chance where the {unit} of a head are all alike and "
        "differ as numbers of one normal distribution do." * bool(chance)
    )
    same = " A percentile calls the same share outliers in every head." * (diagnosis.outliers.rule == "percentile")
    return Picture(
        title,
        side_by_side(panels, diagnosis.layer_names(), unit),
        _by_band(
            diagnosis,
            {unit: count, f"{unit}_null": shuffled, "times_median": times}
            | ({f"{unit}_by_chance": chance} if chance else {}),
        ),
        f"Left: {meaning} (rule: {rule_words(diagnosis)}), of all heads. Beside it the null: as many outliers spread "
        f"evenly over the channels of all bands, as shuffling the channels would on average.{alike}{same}{pooled}",
        sample=sample,
    )


@once
def shift(diagnosis: Diagnosis, which: str) -> Picture:
    """Whether the channels that stand out at short positions are those that do at long ones, by head."""
    found = diagnosis.outliers
    same, moved = found.jaccard[which], found.mass_moved[which]
    nulls = {"jaccard_null": found.jaccard_null, "mass_moved_null": found.mass_moved_null}
    columns, head = [str(h) for h in range(max(map(len, same)))], found.head_word(which)
    maps: list[tuple[str, Rows]] = [("same channels (Jaccard)", same)]
    if which in found.jaccard_null:
        maps.append((RANDOM_SPLIT_NULL, found.jaccard_null[which]))
    maps.append(("outlier mass moved", moved))
    if which in found.mass_moved_null:
        maps.append((RANDOM_SPLIT_NULL, found.mass_moved_null[which]))
    table = pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "head": h, "jaccard": value, "mass_moved": moved[i][h]}
            | {name: z[which][i][h] for name, z in nulls.items() if which in z}
            for i, row in enumerate(same)
            for h, value in enumerate(row)
        ]
    )
    without = sum(value is None for row in same for value in row)
    empty = f" {without} of {len(table)} heads have no outlier channel early or late: they are empty and not counted."
    null = (
        " Nulls: the same positions split at random into two groups of the same sizes, so that only chance tells "
        "them apart." * (which in found.jaccard_null)
    )
    return Picture(
        _shift_title(diagnosis, which),
        side_by_side(
            [Panel(name, z, columns, head, head) for name, z in maps],
            diagnosis.layer_names(),
            "share",
            span=(0.0, 1.0),
        ),
        table,
        "Jaccard index: of the channels that stand out at the first or at the last positions, the share that does at "
        "both; 1 is all of them, 0 none. Mass moved: the share of the outliers' total size that lies in other channels "
        f"at the last positions than at the first. Rule for what stands out: {rule_words(diagnosis)}."
        f"{null}{empty * (without > 0)}{found.pooled(which)}",
        sample=counted_on(found.sample),
    )


def _shift_title(diagnosis: Diagnosis, which: str) -> str:
    found, name = diagnosis.outliers, TENSORS[which]
    if found.sample is None:  # an older file counted heads without outliers as the same
        mean = mean_of(found.jaccard[which])
        return f"Of the channels of {name} that stand out early or late, {mean or 0:.0%} do both, mean over heads"
    if not found.disjoint:
        return f"Outliers of {name}: the short context is the whole one, so there is no late part to compare"
    both = found.share_of_both(which)
    if both is None:
        return f"No channel of {name} stands out early or late ({rule_words(diagnosis)})"
    chance = found.share_null[which][0]
    dealt = "" if chance is None else f" ({chance:.0%} by chance)"
    return f"Of the channels of {name} that stand out early or late, {both:.0%} do both{dealt}"


@once
def error_share(diagnosis: Diagnosis) -> Picture:
    """Share of each band's quantization error that outlier entries carry, quantizer by quantizer."""
    found = diagnosis.outliers
    columns = [str(b.index) for b in diagnosis.bands]
    shown, twice = _distinct(diagnosis, found.error_share)
    panels = [Panel(f"of the {_short(name)} error", z, columns, "band", "band") for name, z in shown.items()]
    panels.append(Panel("null: of the entries", found.entry_share, columns, "band", "band"))
    named = {f"{name.replace(' ', '_')}_error": z for name, z in found.error_share.items()}
    named["entries"] = found.entry_share
    means = {name: mean_of(z) or 0.0 for name, z in shown.items()}
    apart, own = "", means.get(IN_FORCE)
    if own is not None and found.which_keys:  # counted on other keys, so beside another null
        panels.append(Panel("null: of the setup's", found.entry_share_in_force, columns, "band", "band"))
        named["in_force_entries"] = found.entry_share_in_force
        means.pop(IN_FORCE)
        apart = (
            f"; of the keys that the setup's quantizer rounds, {mean_of(found.entry_share_in_force) or 0:.1%} and "
            f"{own:.1%} of its error"
        )
    parts = " and ".join(f"{mean:.1%} of the {_error(name)}" for name, mean in means.items())
    return Picture(
        f"Outliers are {mean_of(found.entry_share) or 0:.1%} of the entries and carry {parts}{apart}",
        side_by_side(panels, diagnosis.layer_names(), "share"),
        _by_band(diagnosis, named),
        f"Share of K's squared rounding error that lies on outliers, by layer and band (rule: "
        f"{rule_words(diagnosis)}, over all entries of a head; its limit is known to about 3 %, and where "
        "magnitudes are sparse to the gap between two); the title gives means "
        "over layers and bands. Null: as many entries chosen at random carry their own share. Above it, outliers are "
        "rounded worse than the rest; "
        f"below it, the rest is rounded with a coarser step because of their range.{ALONE}{twice}",
        sample=counted_on(found.sample, estimates=False),
    )


@once
def error_by_channel(diagnosis: Diagnosis) -> Picture | None:
    """How unevenly the quantization error of K lies over channels, quantizer by quantizer; None for an older file."""
    found = diagnosis.outliers
    if not found.error_by_channel:
        return None
    shown, twice = _distinct(diagnosis, found.error_by_channel)
    figure, most = even_shares(diagnosis, shown, lambda name: f"{_short(name)} error", "channel of the head")
    parts = [
        f"{largest(times)} times its even share of the {_error(name)}{by_chance(diagnosis, found.error_spread, name)}"
        for name, times in most.items()
    ]
    return Picture(
        f"One channel of K carries up to {' and '.join(parts)}",
        figure,
        channel_table(diagnosis, found.error_by_channel),
        "Squared rounding error of every channel, of all KV heads, over what it would be if all channels carried the "
        "same. By chance (the null): the largest cell if every vector's errors were dealt to its channels at random, "
        "with the central 95 % in brackets. Lines are band edges. A quantizer with one step for all channels rounds "
        f"them about alike, whatever their magnitude, unless they are smaller than the step.{ALONE}{twice}",
        sample=counted_on(found.sample, estimates=False),
    )


def _distinct(diagnosis: Diagnosis, named: Mapping[str, LayerBand]) -> tuple[dict[str, LayerBand], str]:
    """Without the setting's quantizer where it makes no error, or in every cell that of int8 or int4, and in words
    why; and which keys its error is of."""
    mine = named.get(IN_FORCE)
    if mine is None:
        return dict(named), ""
    probes = {name: z for name, z in named.items() if name != IN_FORCE}
    if not any(v for row in mine for v in row):
        return probes, " The setup's quantizer rounds no key of this context, so it is not drawn."
    twin = next((name for name, z in probes.items() if z == mine), None)
    if twin is not None:
        return probes, f" The setup's quantizer errs as {twin} does in every cell, so it is not drawn again."
    found = diagnosis.outliers
    if found.which_keys:
        both = named is found.error_share
        but = "But the" if found.of_quantized_model else "The"
        return dict(named), (
            f" {but} setup's error{' and its null are' if both else ' is'} of the {found.which_keys}; int8's and "
            f"int4's{' and the other null' * both} are of all keys of the unquantized model."
        )
    return dict(named), "" if found.entry_share_in_force else _older_keys(diagnosis)


def _older_keys(diagnosis: Diagnosis) -> str:
    """What the setting's error is of in a file that does not know the keys that its quantizer is given."""
    said, exact, noise = "", diagnosis.outliers.still_exact, diagnosis.logit_noise
    if exact:
        said = (
            f" The setup's quantizer leaves the newest {exact:,} keys exact: its error is of the keys that the "
            "context's last query reads rounded, int8's, int4's and the null are of all keys."
        )
    if noise is not None and which_errors(noise.kind) == PROPAGATED:
        said += " This file is older: the setup's error is counted on the keys of the unquantized model too."
    return said


def _error(quantizer: str) -> str:
    return "error of the setup's quantizer" if quantizer == IN_FORCE else f"{quantizer} error"


def _short(quantizer: str) -> str:
    return "setting's" if quantizer == IN_FORCE else quantizer


def _by_band(diagnosis: Diagnosis, named: Mapping[str, Rows]) -> pd.DataFrame:
    rows = next(iter(named.values()))
    return pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "band": b} | {name: z[i][b] for name, z in named.items()}
            for i, row in enumerate(rows)
            for b in range(len(row))
        ]
    )


def _total(rows: Rows) -> float:
    return sum(v for row in rows for v in row if v is not None)


FIGURES: dict[str, Draw] = {
    "outlier_counts": lambda diagnosis: [counts(diagnosis, which) for which in diagnosis.outliers.count],
    "outlier_shift": lambda diagnosis: [shift(diagnosis, which) for which in diagnosis.outliers.jaccard],
    "outlier_error": lambda diagnosis: [error_share(diagnosis), error_by_channel(diagnosis)],
}
