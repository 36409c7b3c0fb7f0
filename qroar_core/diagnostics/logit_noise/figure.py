"""Logit noise: what quantization does to the attention logits, by position, distance, layer and band.

Every picture takes a second diagnosis, of the same model with tuned scales in its weights, to draw over the first.
The reference is the zero line: noise is measured against it. The null is dotted grey: random errors of the same energy.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.diagnostics.logit_noise import figure_words as words
from qroar_core.diagnostics.logit_noise.result import LogitNoise
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import which_errors
from qroar_core.figures.by_group import Draw, each_group
from qroar_core.figures.heatmaps import Panel, side_by_side
from qroar_core.figures.picture import BLUE, COLOURS, GREY, ORANGE, Picture, counted_on, framed

FIRST_HEIGHT = 320  # pixels: the first figure of the page is whole on its first screen
ZERO_DISTANCE = 0.5  # where distance 0 stands on a log axis
NULL = "null: random errors of the same size"
STYLES = {"quantized": (ORANGE, "solid"), "tuned": (BLUE, "solid"), "reference": (GREY, "dash"), NULL: (GREY, "dot")}
BLIND = (
    " The dotted line is the null: the same figure for random errors, as large as those of their layer and head are on "
    "average here, in a random direction, one for each key and one for each query, and alike at every position. It "
    "moves only as queries (and, where queries are rounded, keys) get longer or shorter."
)
REST, STILL = "no rotation", "channels without rotation"
PARTS = " The squares of parts need not add up to the square of the whole: the parts of one logit may agree or cancel."


def models(diagnosis: Diagnosis, tuned: Diagnosis | None = None) -> dict[str, LogitNoise]:
    """ "quantized" and, where measured, "tuned" -> its noise."""
    seen = {"quantized": diagnosis.logit_noise, "tuned": tuned.logit_noise if tuned else None}
    return {name: noise for name, noise in seen.items() if noise is not None}


def by_position(diagnosis: Diagnosis, tuned: Diagnosis | None = None) -> Picture | None:
    """RMS of the logit error and KL of the attention rows by query position. None when nothing is quantized."""
    seen = models(diagnosis, tuned)
    if not seen:
        return None
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    tables = []
    for name, noise in seen.items():
        for col, values, what in ((1, noise.rms, "RMS logit error"), (2, noise.attention_kl, "attention KL")):
            _line(figure, name, noise.position, values, f"position %{{x}}, {what}: %{{y:.4g}} nats", col)
        tables.append(
            pd.DataFrame(
                {"model": name, "position": noise.position, "rms": noise.rms, "attention_kl": noise.attention_kl}
            )
        )
    for col in (1, 2):
        _zero(figure, seen["quantized"].position, col)
    null = seen["quantized"].null
    if null is not None:
        _line(figure, NULL, seen["quantized"].position, null.rms, "position %{x}, random errors: %{y:.4g} nats", 1)
        tables[0]["null_rms"] = null.rms
        if null.attention_kl:
            _line(
                figure,
                NULL,
                seen["quantized"].position,
                null.attention_kl,
                "position %{x}, random errors: KL %{y:.4g} nats",
                2,
            )
            tables[0]["null_attention_kl"] = null.attention_kl
    framed(figure, "query position, tokens", "", height=FIRST_HEIGHT, log_x=True)
    figure.update_yaxes(title_text="RMS logit error, nats", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="KL of the attention weights, nats", rangemode="tozero", row=1, col=2)
    growth_said, won_said = words.grown(seen["quantized"]), words.won(seen)
    return Picture(
        f"Does the noise on the logits grow with position?{growth_said}"
        f"{'.' * bool(growth_said and won_said)}{won_said}",
        figure,
        pd.concat(tables, ignore_index=True),
        f"Quantized minus reference at sampled query rows (errors {which_errors(seen['quantized'].kind)}). Over "
        "layers: the root of the mean square of the error, the mean of the KL."
        + (" ± is the standard error over rows." if " ± " in growth_said else "")
        + words.against(tuned)
        + (f"{BLIND} A line that rises faster is damage that comes with length.{words.of_kl(null)}" if null else ""),
        counted_on(seen["quantized"].sample),
    )


def by_group(diagnosis: Diagnosis) -> Picture | None:
    """The same, one line a group of layers. None where layers are alike, or the file does not tell them apart."""
    whole = diagnosis.logit_noise
    seen = [(group, group.noise) for group in diagnosis.groups if group.noise is not None]
    if whole is None or not seen:
        return None
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    for at, (group, noise) in enumerate(seen):
        for col, values, what in ((1, noise.rms, "RMS logit error"), (2, noise.attention_kl, "attention KL")):
            figure.add_scatter(
                x=whole.position,
                y=values,
                name=group.name,
                legendgroup=group.name,
                showlegend=col == 1,
                mode="lines+markers",
                line={"color": COLOURS[at % len(COLOURS)]},
                row=1,
                col=col,
                hovertemplate=f"{group.name}<br>position %{{x}}, {what}: %{{y:.4g}} nats<extra></extra>",
            )
    for group, noise in seen:
        if noise.null is not None:
            figure.add_scatter(
                x=whole.position,
                y=noise.null.rms,
                name=f"null: {group.name}",
                mode="lines",
                row=1,
                col=1,
                line={"color": GREY, "dash": "dot"},
                hovertemplate=f"null of {group.name}<br>position %{{x}}: %{{y:.4g}} nats<extra></extra>",
            )
            if noise.null.attention_kl:
                figure.add_scatter(
                    x=whole.position,
                    y=noise.null.attention_kl,
                    mode="lines",
                    row=1,
                    col=2,
                    showlegend=False,
                    line={"color": GREY, "dash": "dot"},
                    name=f"null: {group.name}, KL",
                    hovertemplate=f"null of {group.name}<br>position %{{x}}: KL %{{y:.4g}} nats<extra></extra>",
                )
    framed(figure, "query position, tokens", "", height=FIRST_HEIGHT, log_x=True)
    figure.update_yaxes(title_text="RMS logit error, nats", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="KL of the attention weights, nats", rangemode="tozero", row=1, col=2)
    most, own = max(seen, key=lambda pair: sum(v or 0.0 for v in pair[1].rms))
    return Picture(
        f"Which layers make the noise? {f'Most: {most.name}' if any(own.rms) else words.NO_NOISE}",
        figure,
        pd.concat(
            [
                pd.DataFrame(
                    {
                        "layers": group.name,
                        "position": whole.position,
                        "rms": noise.rms,
                        "attention_kl": noise.attention_kl,
                    }
                    | ({"null_rms": noise.null.rms} if noise.null else {})
                )
                for group, noise in seen
            ],
            ignore_index=True,
        ),
        "One line a group of layers with the same RoPE and attention span, over its own layers "
        f"(errors {which_errors(whole.kind)})."
        + (" No query of a layer with a window meets noise from further back than that." if _windows(diagnosis) else "")
        + (
            " Dotted grey, one line a group: the null, random errors of the same average size, alike at every "
            f"position.{seen[0][1].null.older}"
            if seen[0][1].null
            else ""
        ),
        counted_on(whole.sample),
    )


def by_distance(diagnosis: Diagnosis, tuned: Diagnosis | None = None) -> Picture | None:
    """RMS of the logit error by distance between query and key."""
    seen = models(diagnosis, tuned)
    if not seen:
        return None
    figure = make_subplots(1, 1)
    distance, tables = seen["quantized"].distance, []
    places = [d or ZERO_DISTANCE for d in distance]
    for name, noise in seen.items():
        _line(figure, name, places, noise.rms_by_distance, "from distance %{text}: %{y:.4g} nats", 1, distance)
        tables.append(pd.DataFrame({"model": name, "distance": noise.distance, "rms": noise.rms_by_distance}))
        if noise.rms_by_distance_error:
            tables[-1]["standard_error"] = noise.rms_by_distance_error
            figure.data[-1].update(error_y={"type": "data", "array": noise.rms_by_distance_error, "thickness": 1})
    _zero(figure, places, 1)
    null = seen["quantized"].null
    if null is not None:
        _line(
            figure,
            NULL,
            places,
            null.rms_by_distance,
            "from distance %{text}, random errors: %{y:.4g} nats",
            1,
            distance,
        )
        tables[0]["null_rms"] = null.rms_by_distance
    framed(figure, "distance from query to key, tokens (start of each doubling)", "RMS logit error, nats", log_x=True)
    figure.update_xaxes(tickvals=places, ticktext=[str(d) for d in distance])
    figure.update_yaxes(rangemode="tozero")
    return Picture(
        f"Are far keys noisier than near ones?{words.further(seen['quantized'])}",
        figure,
        pd.concat(tables, ignore_index=True),
        f"The same error by how far back the key is, at the sampled query rows.{words.against(tuned)}"
        + (BLIND if null else "")
        + words.bars(seen["quantized"]),
        counted_on(seen["quantized"].sample),
    )


def by_layer_and_band(diagnosis: Diagnosis, tuned: Diagnosis | None = None) -> Picture | None:
    """RMS of each band's part of the logit error, quantized beside tuned on one scale."""
    seen = models(diagnosis, tuned)
    if not seen:
        return None
    noise = seen["quantized"]
    columns = [str(b.index) for b in diagnosis.bands] + [REST] * bool(noise.unrotated)
    cells = {name: _with_rest(one.by_band, one.unrotated) for name, one in seen.items()}
    cells |= {NULL: _with_rest(noise.null_by_band, noise.null_unrotated)} if noise.null_by_band else {}
    panels = [Panel(name, rows, columns, "band, fast to slow", "band") for name, rows in cells.items()]
    table = pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "band": columns[b]}
            | {"null_rms" if name == NULL else f"{name}_rms": rows[i][b] for name, rows in cells.items()}
            for i, row in enumerate(panels[0].z)
            for b in range(len(row))
        ]
    )
    nulls = cells.get(NULL)
    spreads = words.band_spreads(noise, sum(any(v is not None for v in row) for row in noise.by_band))
    found = [
        (
            f"layer {diagnosis.layer_number(i)}, {STILL if columns[b] == REST else f'band {columns[b]}'}",
            v,
            nulls[i][b] if nulls else None,
            spreads[b] if b < len(spreads) else None,
        )
        for i, row in enumerate(panels[0].z)
        for b, v in enumerate(row)
    ]
    return Picture(
        f"Which band makes the noise? {words.loudest(found)}",
        side_by_side(panels, diagnosis.layer_names(), "nats"),
        table,
        "Each cell is the RMS of that band's part of the logit error, over the sampled query rows."
        + PARTS
        + (
            f" The column {REST} holds channels that RoPE leaves alone, and all of a layer without it."
            if noise.unrotated
            else ""
        )
        + (
            " The last map is the null: errors of the same energy, spread alike over all channels of a layer and head."
            + words.JUDGED
            + words.SPREAD * bool(spreads)
            if noise.null_by_band
            else ""
        ),
        counted_on(noise.sample),
    )


def _windows(diagnosis: Diagnosis) -> bool:
    return any(group.window is not None for group in diagnosis.groups)


def _with_rest(by_band: list, rest: list) -> list[list]:
    """Rows of a map by layer, with the channels without rotation at their end where there are any."""
    return [[*row, *rest[i : i + 1]] for i, row in enumerate(by_band)]


def _line(figure: go.Figure, name: str, x: list, y: list, hover: str, col: int, text: list | None = None) -> None:
    colour, dash = STYLES[name]
    figure.add_scatter(
        x=x,
        y=y,
        name=name,
        legendgroup=name,
        showlegend=col == 1,
        mode="lines+markers",
        text=text,
        line={"color": colour, "dash": dash},
        hovertemplate=f"{hover}<extra>{name}</extra>",
        row=1,
        col=col,
    )


def _zero(figure: go.Figure, x: list, col: int) -> None:
    """The reference: without noise by definition."""
    _line(figure, "reference", [x[0], x[-1]], [0.0, 0.0], "reference: 0 by definition", col)


FIGURES: dict[str, Draw] = {
    "logit_noise_by_group": lambda diagnosis: [by_group(diagnosis)],
    "logit_noise": each_group(by_position),
    "logit_noise_by_layer": lambda diagnosis: [by_layer_and_band(diagnosis)],
    "logit_noise_by_distance": each_group(by_distance),
}
