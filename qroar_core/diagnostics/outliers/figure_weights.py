"""Outlier rows and columns of W_Q and W_K, and what they carry of the weights' own rounding error."""

from __future__ import annotations

import pandas as pd

from qroar_core.diagnostics.outliers.figure_channels import (
    band_of_channel,
    by_chance,
    channel_names,
    channel_table,
    draw_edges,
    even_shares,
    pair_of_channel,
)
from qroar_core.diagnostics.outliers.figure_rules import band_counts, rule_words
from qroar_core.diagnostics.outliers.result import mean_of
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import Draw
from qroar_core.figures.cache_by_result import once
from qroar_core.figures.heatmaps import Panel, pooled, pooled_edges, side_by_side
from qroar_core.figures.picture import FROM_WEIGHTS, Picture, bin_names

COLUMNS = 128  # cells that input columns are pooled to
WIDTHS = ("int8", "int4")


def loudest_layer(diagnosis: Diagnosis, matrix: str) -> int:
    """The layer whose largest row stands out most from its head's median row."""
    return diagnosis.outliers.matrix_maps[matrix].loudest_layer()


def every(diagnosis: Diagnosis) -> list[Picture]:
    """All pictures of W_Q and W_K, rows of the layer that stands out most; none where a file has no matrices."""
    drawn = []
    for matrix in diagnosis.outliers.matrix_maps:
        drawn += [
            rows(diagnosis, matrix, loudest_layer(diagnosis, matrix)),
            columns(diagnosis, matrix),
            counts(diagnosis, matrix),
        ]
        for bits in WIDTHS:
            drawn += [error_share(diagnosis, matrix, bits), error_by_channel(diagnosis, matrix, bits)]
    return drawn


@once
def rows(diagnosis: Diagnosis, matrix: str, layer: int) -> Picture:
    """Mean |w| of every output row, heads down and channels across, with band edges."""
    found = diagnosis.outliers.matrix_maps[matrix]
    heads, by_head = found.rows[layer], found.times_median(layer)
    best = max(range(len(heads)), key=lambda h: by_head[h][0])
    times, channel = by_head[best]
    picked = layer == found.loudest_layer()  # the largest of all layers, so chance is given as many
    chance = f"{found.by_chance(len(found.rows) if picked else 1)} by chance{', largest of all layers' * picked}"
    columns = [name.removeprefix("channel ") for name in channel_names(diagnosis)]
    numbers = [str(c) for c in range(diagnosis.head_dim)]
    figure = side_by_side(
        [Panel("", heads, numbers, "output channel of the head", "channel")],
        [f"head {h}" for h in range(len(heads))],
        "mean |w|",
    )
    draw_edges(figure, diagnosis, 1)
    table = pd.DataFrame(
        [
            {"head": h, "channel": c, "pair": pair, "band": band, "mean_abs": row[c]}
            for h, row in enumerate(heads)
            for c, (pair, band) in enumerate(zip(pair_of_channel(diagnosis), band_of_channel(diagnosis)))
        ]
    ).astype({"pair": "Int64", "band": "Int64"})
    return Picture(
        f"Rows of {matrix} in layer {diagnosis.layer_number(layer)}: channel {columns[channel]}, of head {best} is "
        f"{times:.3g} times its head's median row ({chance})",
        figure,
        table,
        "Each cell is the mean |w| of the row of weights that makes one channel of one head. A bright column is a "
        "channel that is large in every head. Lines are band edges. By chance (the null): the largest row over "
        "its head's median one among as many heads of normal weights, as long as these, with the central 95 % in "
        "brackets; in the layer that stands out most, the largest over as many layers.",
        sample=FROM_WEIGHTS,
    )


@once
def columns(diagnosis: Diagnosis, matrix: str) -> Picture:
    """Mean |w| of every input column, layer by layer."""
    found, by_rule = diagnosis.outliers.matrix_maps[matrix].columns, diagnosis.outliers.matrices[matrix]
    width = len(found[0])
    edges = pooled_edges(list(range(width + 1)), COLUMNS)
    names = bin_names(edges) if width > COLUMNS else [str(c) for c in range(width)]
    figure = side_by_side(
        [Panel("", [pooled(row, COLUMNS) for row in found], names, "input column", "column")],
        diagnosis.layer_names(),
        "mean |w|",
    )
    shares = " and ".join(
        f"{value:.1%} of the {_error_words(name)}" for name, value in _means(by_rule.column_error_share)
    )
    count = sum(v or 0 for v in by_rule.columns)
    table = pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "columns": by_rule.columns[i], "share": by_rule.column_share[i]}
            | {f"{name}_error": values[i] for name, values in by_rule.column_error_share.items()}
            for i in range(len(found))
        ]
    )
    share, chance = mean_of([by_rule.column_share]) or 0.0, by_rule.columns_by_chance
    dealt = "" if chance is None else f" ({chance * len(found):.1f} by chance)"
    return Picture(
        f"Input columns of {matrix} that stand out: {count:.0f}{dealt}, {share:.1%} of all; they carry {shares}"
        if count
        else f"No input column of {matrix} stands out ({rule_words(diagnosis)}){dealt}",
        figure,
        table,
        f"Mean |w| of the weights that read one channel of the hidden state, the largest of each cell. Outliers by "
        f"{rule_words(diagnosis)} over all columns of the matrix. Null: as many columns chosen at random carry their "
        "own share of the error; by chance: as many as stand out among as many numbers of one normal distribution.",
        sample=FROM_WEIGHTS,
    )


@once
def counts(diagnosis: Diagnosis, matrix: str) -> Picture:
    """How many rows stand out in every band, and how far."""
    found = diagnosis.outliers.matrices[matrix]
    return band_counts(
        diagnosis,
        found.count,
        found.magnitude,
        f"rows of {matrix}",
        "rows",
        FROM_WEIGHTS,
        diagnosis.outliers.heads_of(matrix),
        "rows whose mean |w| is an outlier among all rows of their head",
    )


@once
def error_share(diagnosis: Diagnosis, matrix: str, bits: str) -> Picture:
    """Share of each band's rounding error that outlier rows carry, for every scale of one width. bits: "int4"."""
    found = diagnosis.outliers.matrices[matrix]
    shown = _of_width(found.error_share, bits)
    names = [str(b.index) for b in diagnosis.bands]
    panels = [Panel(_scale(name), z, names, "band", "band") for name, z in shown.items()]
    panels.append(Panel("null: of the rows", found.row_share, names, "band", "band"))
    table = pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "band": b, "rows": value}
            | {name: z[i][b] for name, z in found.error_share.items()}
            for i, row in enumerate(found.row_share)
            for b, value in enumerate(row)
        ]
    )
    carried = [f"{mean_of(z) or 0:.1%} of the {_error(name)}" for name, z in shown.items()]
    return Picture(
        f"Outlier rows of {matrix} are {mean_of(found.row_share) or 0:.1%} of its rows and carry {_listed(carried)}",
        side_by_side(panels, diagnosis.layer_names(), "share"),
        table,
        f"Share of the weights' squared rounding error on outlier rows, by layer and band (rule: "
        f"{rule_words(diagnosis)}, over the rows of a head); the title gives means over layers and bands. Null: as "
        "many rows chosen at random carry their own share.",
        sample=FROM_WEIGHTS,
    )


@once
def error_by_channel(diagnosis: Diagnosis, matrix: str, bits: str) -> Picture:
    """How unevenly the rounding error of the weights lies over channels, for every scale of one width."""
    kept = diagnosis.outliers.matrix_maps[matrix]
    shown = _of_width(kept.error_by_channel, bits)
    figure, largest = even_shares(diagnosis, shown, _scale, "output channel of the head")
    parts = [
        f"{times:.3g} times its even share of the {_error(name)}{by_chance(diagnosis, kept.error_spread, name)}"
        for name, times in largest.items()
    ]
    return Picture(
        f"One channel's rows of {matrix} carry up to {_listed(parts)}",
        figure,
        channel_table(diagnosis, shown),
        "Squared rounding error of the rows of every channel, of all heads, over what it would be if all channels "
        "carried the same. By chance (the null): the largest cell if the errors of one input were dealt to a head's "
        "channels at random, with the central 95 % in brackets. Lines are band edges.",
        sample=FROM_WEIGHTS,
    )


def _of_width(named: dict, bits: str) -> dict:
    """Those of one width, and the setting's own."""
    return {name: z for name, z in named.items() if name.startswith(bits) or name == "in force"}


def _scale(quantizer: str) -> str:
    return "as the setup rounds" if quantizer == "in force" else quantizer.split(" ", 1)[1]


def _error_words(quantizer: str) -> str:
    return "error of the setup's quantizer" if quantizer == "in force" else f"{quantizer} error"


def _error(quantizer: str) -> str:
    """The setting's own has a width of its own, whatever the figure's."""
    return (
        _error_words(quantizer)
        if quantizer == "in force"
        else f"{quantizer.split(' ', 1)[0]} error {_scale(quantizer)}"
    )


def _means(named: dict) -> list[tuple[str, float]]:
    """Means over layers, of int4 and of the setting's own."""
    return [(name, mean_of([z]) or 0.0) for name, z in _of_width(named, "int4").items()]


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if parts[1:] else "") + parts[-1]


FIGURES: dict[str, Draw] = {"outlier_weights": lambda diagnosis: list(every(diagnosis))}
