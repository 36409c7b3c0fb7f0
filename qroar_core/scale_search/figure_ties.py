"""What tying pairs costs and buys, group by group, and what else was tried."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, Picture, framed
from qroar_core.interpolations.tie import parse_ties, ties_words
from qroar_core.scale_search.result_ties import TieChoice
from qroar_core.statistics.digits import shown


def groups(choice: TieChoice) -> Picture | None:
    """Cost and gain of every chosen group; None without any."""
    if not choice.groups:
        return None
    together = choice.left
    names = [f"{one.first}–{one.last}" for one in choice.groups]
    table = pd.DataFrame(
        {
            "pairs": names,
            "turn": [one.turn for one in choice.groups],
            "wavelength_tokens": [one.wavelength for one in choice.groups],
            "largest_of_k": [one.absmax_share for one in choice.groups],
            "cost": [one.cost for one in choice.groups],
            "left_without": [one.left_without for one in choice.groups],
            "recovered": [one.left_without - together for one in choice.groups],
        }
    )
    figure = go.Figure()
    for column, name, colour in (("recovered", "recovers, its cost included", GREEN), ("cost", "costs", ORANGE)):
        figure.add_bar(
            x=names,
            y=table[column],
            name=name,
            marker={"color": colour},
            hovertemplate=f"pairs %{{x}} {name}: %{{y:.3g}}<extra></extra>",
        )
    framed(figure, "tied RoPE pairs", "share of what rounding K makes")
    return Picture(
        f"Tying pairs {', '.join(names)} leaves {together:.0%} of the rounding error before any search, "
        f"{choice.left_untied:.0%} without a tie",
        figure,
        table,
        "Errors are squared changes of the attention output, as shares of what rounding makes without a tie: what a "
        "group costs is the tie alone in full precision, what it recovers is how much more would be left without it.",
        f"On {choice.text}.",
    )


def tried(choice: TieChoice) -> Picture:
    """What every choice that was tried costs and leaves; the one that was taken stands out."""
    table = pd.DataFrame(
        [(ties_words(parse_ties(one.tie)) or "no tie", one.cost, one.left) for one in choice.tried],
        columns=["pairs", "cost", "left"],
    ).drop_duplicates("pairs", keep="last")
    chosen = table["pairs"] == (ties_words(choice.tie) or "no tie")
    figure = go.Figure()
    for rows, name, colour in ((table[~chosen], "tried", GREY), (table[chosen], "chosen", BLUE)):
        figure.add_scatter(
            x=rows["cost"],
            y=rows["left"],
            mode="markers",
            name=name,
            text=rows["pairs"],
            marker={"color": colour, "size": 9},
            hovertemplate="%{text}<br>costs %{x:.3g}, leaves %{y:.3f}<extra></extra>",
        )
    framed(figure, "cost of the tie, share of what rounding K makes", "left by tie and rounding, same share")
    return Picture(
        f"{len(table) - 1:d} ties were compared with none on the captured text",
        figure,
        table,
        "A dot is one choice of groups: further down less is left, further left the tie costs less. The cost is part "
        "of what is left.",
        f"On {choice.text}.",
    )


def costs(choice: TieChoice) -> pd.DataFrame:
    """What the choice costs in nats at each length, as it is read."""
    return pd.DataFrame(
        [
            (
                one.length,
                one.windows,
                f"{one.nats:+.4f} [{shown(one.low, digits=2)}, {shown(one.high, digits=2)}]",
                one.allowed,
            )
            for one in choice.costs
        ],
        columns=["length, tokens", "windows", "cost, nats", "allowed, nats"],
    )
