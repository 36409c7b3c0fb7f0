"""What each cell loses against what its cache takes."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import COLOURS, Picture, framed
from qroar_core.sweeps.result import DONE, NOT_KEPT
from qroar_core.sweeps.table import KL_ENDS

SYMBOLS = ("circle", "diamond", "square", "star", "cross", "triangle-up", "x")
SHOWN = ("model", "rope", "factor", "length", "quantizer", "text", "seed")


def loss_by_bytes(frame: pd.DataFrame) -> Picture | None:
    """Loss against bytes of K and V per token, a colour a remedy; None where no cell is finished."""
    done = frame[frame["status"] == DONE]
    if done.empty:
        return None
    figure = go.Figure()
    done = done.assign(remedy=done["remedy"] + (done["kept"] == NOT_KEPT).map({True: " (found, not kept)", False: ""}))
    for at, (remedy, mine) in enumerate(done.groupby("remedy", sort=False)):
        figure.add_scatter(
            x=mine["bytes_per_token"].tolist(),
            y=mine["loss"].tolist(),
            name=str(remedy),
            mode="markers",
            marker={"color": COLOURS[at % len(COLOURS)], "symbol": SYMBOLS[at % len(SYMBOLS)], "size": 10},
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 5,
                "array": (mine["loss_high"] - mine["loss"]).tolist(),
                "arrayminus": (mine["loss"] - mine["loss_low"]).tolist(),
            },
            text=[", ".join(map(str, row)) for row in mine[list(SHOWN)].itertuples(index=False)],
            hovertemplate="%{text}<br>%{x:,} bytes a token, loss %{y:+.4f} nats<extra>%{fullData.name}</extra>",
        )
    framed(figure, "bytes of K and V per token", "loss, nats per token (lower is better)", height=460)
    return Picture(
        "What does each cache lose, and what does it take?",
        figure,
        done[[*SHOWN, "remedy", "bytes_per_token", "loss", "loss_low", "loss_high", "kl", *KL_ENDS]],
        "NLL on held-out text minus that of the unquantized model under the same interpolation; bars are 95 % "
        "intervals, paired over windows.",
    )
