"""Options of `tradeoff`."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from qroar_core.cli.options import MODEL, SETTING, SWEEP, option
from qroar_core.specs.tradeoff import MAX_LOSS

TRADEOFF = [
    inspect.Parameter(
        "file",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            str, typer.Argument(help="folder that sweep --out wrote, or one that holds run folders", metavar="SWEEP")
        ],
    ),
    option(
        "max_loss",
        float,
        MAX_LOSS,
        "loss below which the cheapest format is chosen: nats a token, or a share of needles",
        metavar="X",
    ),
    option("loss", str, "nll", "loss that formats are compared by"),
    *(one for one in SETTING if one.name == "length"),
    option("batch", int, 1, "texts that are in the cache at once"),
    *(one for one in SWEEP if one.name == "cells"),
    *(one for one in MODEL if one.name == "json"),
]
