"""What a choice of layers shows: loss against memory, and what each layer is worth."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, PINK, SKY, Picture, framed
from qroar_core.remedies.result_layers import LayerChoice, Rule
from qroar_core.specs.labels import checksum_words

RULE_STYLES: dict[Rule, tuple[str, str]] = {
    "none": (GREY, "square"),
    "chosen": (GREEN, "diamond"),
    "first_last": (ORANGE, "triangle-up"),
    "all": (PINK, "star"),
}
SENSITIVITY_WORDS = {
    "kept": "KL that is won where only that layer is kept, nats per token",
    "quantized": "KL that is lost where only that layer is quantized, nats per token",
}


def curve(choice: LayerChoice) -> Picture:
    """Loss against the bytes of a token: a point a layer more, and the rules on held-out text."""
    figure = go.Figure()
    at = [point.bytes for point in choice.curve]
    names = [", ".join(map(str, point.layers)) or "none" for point in choice.curve]
    for values, name, colour, dash in (
        ([point.kl for point in choice.curve], "KL, development text", BLUE, "solid"),
        ([point.lost for point in choice.curve], "NLL, development text", SKY, "dot"),
    ):
        figure.add_scatter(
            x=at,
            y=values,
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash},
            text=names,
            hovertemplate="%{x:,.0f} bytes, %{y:.4f} nats<br>kept: %{text}<extra></extra>",
        )
    for row in choice.rules:
        if row.lost is None:
            continue
        colour, symbol = RULE_STYLES[row.rule]
        figure.add_scatter(
            x=[row.bytes],
            y=[row.lost],
            mode="markers",
            name=f"{row.name}: NLL, held-out text",
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [(row.lost_high or 0.0) - row.lost],
                "arrayminus": [row.lost - (row.lost_low or 0.0)],
            },
            text=[", ".join(map(str, row.layers)) or "none"],
            hovertemplate="%{x:,.0f} bytes, %{y:.4f} nats<br>kept: %{text}<extra></extra>",
        )
    framed(figure, "K/V cache, bytes per token over all layers", "lost to the unquantized cache, nats per token")
    figure.add_vline(x=choice.budget, line={"color": GREY, "width": 1, "dash": "dash"}, name="budget", showlegend=True)
    percent = round(100 * choice.confidence)
    return Picture(
        f"Keeping {len(choice.kept)} of {len(choice.layers)} layers: what is lost against the memory that it takes",
        figure,
        curve_table(choice),
        "From left to right one layer more is kept unquantized, the one that wins most per byte first; a curve that "
        "falls steeply at its left has few layers that matter. Markers are rules on held-out text with "
        f"{percent} % intervals, paired over windows. The dashed line is the budget.",
        f"{checksum_words(choice.text)}.",
    )


def worth(choice: LayerChoice) -> Picture:
    """What each layer is worth; the chosen ones stand out."""
    kept = set(choice.kept)
    figure = go.Figure()
    for name, colour, mine in (
        ("kept", GREEN, [one for one in choice.layers if one.layer in kept]),
        ("quantized", GREY, [one for one in choice.layers if one.layer not in kept]),
    ):
        figure.add_bar(
            x=[one.layer for one in mine],
            y=[one.gain for one in mine],
            name=name,
            marker={"color": colour},
            hovertemplate="layer %{x}: %{y:.5f} nats<extra></extra>",
        )
    framed(figure, "layer", SENSITIVITY_WORDS[choice.sensitivity])
    best = choice.order[0]
    return Picture(
        f"Layer {best} is worth most per byte",
        figure,
        worth_table(choice),
        "The higher a bar, the more the whole model's predictions suffer from the rounding of that layer's cache. Bars "
        "do not add up: errors of several layers act on each other.",
        f"{checksum_words(choice.text)}.",
    )


def curve_table(choice: LayerChoice) -> pd.DataFrame:
    """One row a point of the curve, and one a rule on held-out text."""
    points = [
        {
            "kept": len(point.layers),
            "layers": ", ".join(map(str, point.layers)),
            "bytes_per_token": point.bytes,
            "text": "development",
            "kl": point.kl,
            "nll_lost": point.lost,
        }
        for point in choice.curve
    ]
    rules = [
        {
            "kept": len(row.layers),
            "layers": ", ".join(map(str, row.layers)),
            "bytes_per_token": row.bytes,
            "text": f"held-out, {row.name}",
            "nll_lost": 0.0 if row.rule == "all" else row.lost,
            "lost_low": row.lost_low,
            "lost_high": row.lost_high,
            "gain_nats": row.gain,
            "gain_low": row.gain_low,
            "gain_high": row.gain_high,
        }
        for row in choice.rules
    ]
    return pd.DataFrame([*points, *rules])


def worth_table(choice: LayerChoice) -> pd.DataFrame:
    """One row a layer."""
    kept = set(choice.kept)
    return pd.DataFrame(
        [
            {"layer": one.layer, "gain_nats": one.gain, "bytes_per_token": one.bytes, "kept": one.layer in kept}
            for one in choice.layers
        ]
    )
