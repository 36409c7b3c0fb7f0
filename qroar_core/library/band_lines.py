"""A diagnosis as text for a terminal: one short line a band, what a reader asks first, nothing wider than WIDTH."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from qroar_core.diagnostics.band_labels import SPANS, band_name, digits, span
from qroar_core.diagnostics.band_table import BandRow

WIDTH = 88  # columns
NEAR = "wavelength_min_tokens"  # stands for both ends
# column -> the two lines above it; from the left, what says where to look, then what the quantizer does there
COLUMNS = {
    NEAR: ("wavelength", "tokens"),
    "pressure_rad": ("pressure", "rad"),
    "rho_a_k": ("tails", "k, ratio"),
    "outliers_k": ("outliers", "k"),
    "error_share": ("share of", "error, K"),
    "logit_noise_nats": ("logit noise", "nats"),
    "nll_cost_nats": ("cost", "nats"),
}


def band_lines(rows: Sequence[BandRow]) -> str:
    """A table for every group of layers that turns alike, columns of which nothing is known left out."""
    known = [name for name in COLUMNS if any(getattr(row, name) is not None for row in rows)]
    groups = [(layers, list(group)) for layers, group in groupby(rows, lambda row: row.layers)]
    tables = [(f"{layers}\n" if len(groups) > 1 else "") + _table(group, known) for layers, group in groups]
    return "\n\n".join(tables)


def wrapped(text: str) -> str:
    """Every line of a text, broken between words where it is wider than WIDTH."""
    return "\n".join(textwrap.fill(line, WIDTH, break_on_hyphens=False) for line in text.splitlines())


def _table(rows: Sequence[BandRow], known: Sequence[str]) -> str:
    head = [("band", "(pairs)"), *(COLUMNS[name] for name in known)]
    cells = [[band_name(row), *(_cell(row, name) for name in known)] for row in rows]
    lines = [*zip(*head, strict=True), *cells]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cell(row: BandRow, name: str) -> str:
    if name == NEAR:
        return span(getattr(row, NEAR), getattr(row, SPANS[NEAR][1]))
    return digits(row, name, none="–")
