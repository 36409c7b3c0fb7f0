"""Signal and noise of the attention scores: how far both vary over the keys of one query."""

from __future__ import annotations

import pandas as pd
from plotly.subplots import make_subplots

from qroar_core.diagnostics.logit_noise.figure import NULL
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import each_group
from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, counted_on, framed, heatmap
from qroar_core.result import Number


def scores(diagnosis: Diagnosis) -> Picture | None:
    """Standard deviation over keys of the reference's logits and of their noise. None in an older file."""
    noise = diagnosis.logit_noise
    if noise is None or not noise.logit_std or noise.null is None:
        return None
    figure = make_subplots(1, 2, horizontal_spacing=0.16)
    lines = (
        ("reference's logits", noise.logit_std, BLUE, "solid"),
        ("noise", noise.noise_std, ORANGE, "solid"),
        (NULL, noise.null.noise_std, GREY, "dot"),
    )
    for name, values, colour, dash in lines:
        figure.add_scatter(
            x=noise.position,
            y=[v or None for v in values],
            name=name,
            mode="lines+markers",
            row=1,
            col=1,
            line={"color": colour, "dash": dash},
            hovertemplate=f"position %{{x}}, {name}: %{{y:.4g}} nats<extra></extra>",
        )
    each = [_over(n, s) for n, s in zip(noise.noise_std_by_layer, noise.logit_std_by_layer, strict=True)]
    positions = [str(p) for p in noise.position]
    map_of_layers = heatmap(each, positions, diagnosis.layer_names(), "of the logits'<br>spread")
    figure.add_trace(map_of_layers, row=1, col=2)
    framed(figure, "query position, tokens", "")
    figure.update_xaxes(type="log", row=1, col=1)
    figure.update_xaxes(type="category", nticks=8, tickangle=0, row=1, col=2)
    figure.update_yaxes(title_text="standard deviation over keys, nats", type="log", row=1, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=2)
    rows = [("all", noise.logit_std, noise.noise_std, noise.null.noise_std)] + [
        (str(diagnosis.layer_number(i)), s, n, [None] * len(s))
        for i, (s, n) in enumerate(zip(noise.logit_std_by_layer, noise.noise_std_by_layer, strict=True))
    ]
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "layer": layer,
                    "position": noise.position,
                    "logit_std": signal,
                    "noise_std": own,
                    "noise_over_logits": _over(own, signal),
                    "null_noise_std": null,
                }
            )
            for layer, signal, own, null in rows
        ],
        ignore_index=True,
    )
    last, blind = _over(noise.noise_std, noise.logit_std)[-1], _over(noise.null.noise_std, noise.logit_std)[-1]
    known = last is not None and blind is not None
    return Picture(
        "How large is the noise beside the attention scores?"
        + (f" {last:.1%} of their spread at the last position, {blind:.1%} for random errors" if known else ""),
        figure,
        table,
        "Left: standard deviation over the keys that a query sees (the root of the variance's mean over heads and "
        "layers) of the "
        "reference's logits and of what quantization adds to them, before a cap where there is one. A shift of all "
        "logits of a query is in neither, as no softmax sees it. The dotted line is the null: random errors of the "
        "same average size in each layer and head, one for each key and one for each query. Right: noise over logits "
        f"in each layer, by the root of its heads' mean variance.{noise.null.older}",
        counted_on(noise.sample),
    )


def _over(part: list[Number], whole: list[Number]) -> list[Number]:
    return [None if a is None or not b else a / b for a, b in zip(part, whole, strict=True)]


FIGURES = {"attention_scores": each_group(scores)}
