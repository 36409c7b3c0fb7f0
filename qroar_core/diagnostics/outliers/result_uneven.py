"""How unevenly a rounding error lies over channels, beside errors that were dealt to channels at random."""

from __future__ import annotations

from collections.abc import Mapping

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.outliers.result_chance import largest_even
from qroar_core.result import LayerBand, PerBand

OF_VECTORS = "every vector's errors dealt to its channels at random"
OF_INPUTS = "the errors of one input dealt to a head's channels at random"


def uneven_rows(of: str, shares: Mapping[str, LayerBand], spreads: Mapping[str, PerBand], dealt: str) -> list[NullRow]:
    """The channel with most error beside the same maximum of errors dealt at random; none for an older file.

    Args:
        of: whose error. shares: quantizer -> [layer][channel]. spreads: quantizer -> [layer]. dealt: what chance does.
    """
    rows = []
    for name, spread in spreads.items():
        layers = [[v for v in row if v is not None] for row in shares[name]]
        chance = largest_even([v for v in spread if v is not None], max(map(len, layers)))
        if chance is not None:
            rows.append(
                NullRow(
                    diagnostic="Outliers",
                    quantity=f"{called(name)}: share of {of} on one channel over an even one, largest of all layers",
                    measured=max(v * len(row) for row in layers for v in row),
                    null=chance.median,
                    low=chance.low,
                    high=chance.high,
                    control=f"{dealt}: the same maximum, its median and central 95 %",
                )
            )
    return rows


def called(quantizer: str) -> str:
    """A quantizer in words."""
    return "the setup's quantizer" if quantizer == "in force" else quantizer
