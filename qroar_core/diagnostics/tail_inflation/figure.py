"""Tail inflation: do q and k reach further at long context than at short, band by band?

rho_W is the ratio before RoPE, rho_A the one after it; the pages and tables call them so, as the papers do.
"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.tail_inflation.figure_words import control, enough, null_reading, over_native, windows_read
from qroar_core.diagnostics.tail_inflation.result import RHO, TENSORS, largest_null
from qroar_core.figures.by_group import Draw
from qroar_core.figures.heatmaps import Panel, clickable, column_at, crossed, frame, side_by_side
from qroar_core.figures.picture import BLUE, DIVERGING, GREY, ORANGE, Picture, counted_on, framed

Cell = tuple[str, int, int, int]  # "k/post", layer, KV head, band


def worst_cell(diagnosis: Diagnosis) -> Cell:
    """Where the tail is inflated most, K after RoPE first: that is what a K cache quantizes."""
    return _worst(diagnosis, "k/post")


def label(which: str) -> str:
    """The papers' name of a ratio with plain words: `rho_A, K after RoPE`."""
    return f"{RHO[which.split('/')[1]]}, {TENSORS[which]}"


def overview(diagnosis: Diagnosis, picked: Cell | None = None) -> Picture:
    """Four maps of the ratio of 1 - eps quantiles, long over short, largest over KV heads; cells can be clicked."""
    kept, count = _kinds_measured(diagnosis), len(diagnosis.bands)
    panels = []
    for which in kept:
        tensor, side = which.split("/")
        columns = [str(b.index) for b in diagnosis.bands]
        z = diagnosis.tail_inflation[side][tensor]
        panels.append(Panel(label(which), z, columns, "band, fast to slow", "band"))
    figure = side_by_side(panels, diagnosis.layer_names(), "× short", middle=1.0)
    cells = [
        (at, which, layer, band, ratio)
        for at, which in enumerate(kept)
        for layer, row in enumerate(panels[at].z)
        for band, ratio in enumerate(row)
    ]
    clickable(
        figure,
        [column_at(at, band, count) for at, _, _, band, _ in cells],
        [layer for _, _, layer, _, _ in cells],
        [[which, layer, band] for _, which, layer, band, _ in cells],
        [
            f"{label(which)}, layer {diagnosis.layer_number(layer)}, band {band}: {_times(ratio)}"
            f"{_null_words(diagnosis, which, layer, band)}"
            for _, which, layer, band, ratio in cells
        ],
    )
    crossed(
        figure,
        [
            (column_at(at, band, count), layer, ratio)
            for at, which, layer, band, ratio in cells
            if ratio is not None and _inside(diagnosis, which, layer, band)
        ],
        f"null: no further than {control(diagnosis)}",
        DIVERGING,
    )
    if picked is not None:
        which, layer, _, band = picked
        left, right = (column_at(kept.index(which), edge, count) for edge in (band - 0.5, band + 0.5))
        figure.update_layout(shapes=[frame(left, layer - 0.5, right, layer + 0.5)])
    worst = max((_worst(diagnosis, which) for which in kept), key=lambda cell: _ratio(diagnosis, cell))
    rows = [
        {"tensor": x.upper(), **_cell_row(diagnosis, x, layer, band)}
        for x in dict.fromkeys(which[0] for which in kept)
        for layer in range(len(diagnosis.layer_names()))
        for band in range(count)
    ]
    return Picture(
        _headline(diagnosis, worst, kept),
        figure,
        pd.DataFrame(rows),
        f"How much larger the largest {100 * diagnosis.eps:g} % of values |x| get at {diagnosis.length:,} tokens than "
        f"at {diagnosis.short_length:,}: the size that only so many exceed, long over short, of the KV head where it "
        "grows most. rho_W divides the sizes of q and k as W_Q and W_K put them out, before RoPE; rho_A those after "
        "RoPE, on the axes that are rounded. Above 1 the band needs more range at long context, and every channel "
        "that shares its scale is rounded more coarsely. Query heads that read one KV head count together. "
        f"Click a cell for its two distributions. {over_native(diagnosis)}{null_reading(diagnosis)}",
        counted_on(diagnosis.tails[kept[0]].sample) if kept else "",
    )


def survival(diagnosis: Diagnosis, cell: Cell) -> Picture:
    """Share of entries above a value, at long and at short context, with the 1 - eps level marked."""
    which, layer, head, band = cell
    curves, seen, eps = diagnosis.survival[which], diagnosis.tails[which], diagnosis.eps
    figure = go.Figure()
    rows, short_of = [], False
    for side, name, colour, dash in (
        ("long", f"long, {diagnosis.length} tokens", BLUE, "solid"),
        ("short", f"short, {diagnosis.short_length} tokens", ORANGE, "dash"),
    ):
        values = getattr(curves, side)[layer][head][band]
        level = getattr(seen, side)[layer][head][band]
        few = any(
            v is None and p >= eps for p, v in zip(curves.share, values, strict=True)
        )  # fewer values than 1 / eps
        short_of |= few
        of_curve = [*zip(curves.share, values), *([] if few else [(eps, level)])]
        points = sorted({(p, v) for p, v in of_curve if v}, reverse=True)
        figure.add_scatter(
            x=[v for _, v in points],
            y=[p for p, _ in points],
            mode="lines",
            name=name,
            line={"color": colour, "dash": dash, "width": 2.5},
            hovertemplate=f"%{{y:.3~%}} of entries above %{{x:.4g}}<extra>{side}</extra>",
        )
        figure.add_scatter(
            x=[None if few else level],
            y=[eps],
            mode="markers",
            showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "diamond"},
            hovertemplate=f"exceeded by {100 * eps:g} % of values, {side}: %{{x:.6g}}<extra></extra>",
        )
        rows += [{"context": side, "share_above": p, "value": v} for p, v in points]
    null = seen.null
    near = seen.short[layer][head][band]
    if null and near and (low := null.low[layer][head][band]) and (high := null.high[layer][head][band]):
        figure.add_vrect(
            x0=near * low,
            x1=near * high,
            fillcolor=GREY,
            opacity=0.25,
            line_width=0,
            layer="below",
            name=f"null: the long quantile {control(diagnosis)}",
            showlegend=True,
        )
        rows += [{"context": "null", "share_above": eps, "value": near * end} for end in (low, high)]
    framed(figure, f"size of a value, |{which[0]}|", "share of entries above", log_x=True, log_y=True, height=420)
    figure.update_yaxes(tickformat=".3~%", dtick=1)
    figure.add_hline(y=eps, line={"color": GREY, "dash": "dot"})
    figure.add_annotation(
        text=f"the largest {100 * eps:g} % of values",
        xref="paper",
        x=0.01,
        y=math.log10(eps),
        yanchor="bottom",
        showarrow=False,
    )
    return Picture(
        f"{TENSORS[which]}, layer {diagnosis.layer_number(layer)}, head {head}, band {band}: "
        f"{_finding(diagnosis, cell)}",
        figure,
        pd.DataFrame(rows),
        f"{windows_read(diagnosis)} Where the blue line runs right of the orange, values are larger at long context; "
        f"{RHO[which.split('/')[1]]} is the ratio between the diamonds. Values are exact beyond the level and within "
        f"{curves.body_bound:.0%} before it. {null_reading(diagnosis, of_cell=True)}"
        + f" This cell holds too few values to show the largest {100 * eps:g} %, less than one of them: there is "
        "no diamond, and the ratio is of the largest values." * short_of,
        counted_on(seen.sample),
    )


def loudest_head(diagnosis: Diagnosis, which: str, layer: int, band: int) -> int:
    """The KV head whose ratio the map shows in this cell."""
    ratios = [head[band] or 0.0 for head in diagnosis.tails[which].ratio[layer]]
    return ratios.index(max(ratios))


def _cell_row(diagnosis: Diagnosis, tensor: str, layer: int, band: int) -> dict:
    """One cell of the maps before and after RoPE: of the KV heads the one with the largest ratio."""
    row: dict = {"layer": diagnosis.layer_number(layer), "band": band}
    found = [side for side in RHO if f"{tensor}/{side}" in diagnosis.tails]
    heads = {side: loudest_head(diagnosis, f"{tensor}/{side}", layer, band) for side in found}
    tables = {side: diagnosis.tails[f"{tensor}/{side}"] for side in found}
    row |= {RHO[side]: tables[side].ratio[layer][heads[side]][band] for side in found}
    for side, table in tables.items():
        at, name = heads[side], RHO[side]
        row[f"{name}_kv_head"] = at
        row |= {f"{name}_{f}": getattr(table, f)[layer][at][band] for f in ("low", "high", "long", "short")}
        row[f"{name}_over_native_rope"] = table.native[layer][at][band] if table.native else None
        row |= {
            f"{name}_null_{end}": getattr(table.null, f"map_{end}")[layer][band] if table.null else None
            for end in ("low", "high")
        }
    return row


def _headline(diagnosis: Diagnosis, worst: Cell, kept: list[str]) -> str:
    ratio, expected = _ratio(diagnosis, worst), largest_null([diagnosis.tails[which] for which in kept])
    where = f"layer {diagnosis.layer_number(worst[1])}, band {worst[3]}"
    found = f"{TENSORS[worst[0]]} grows most with length: {_times(ratio)} short context ({where})"
    if expected is None:
        return found
    if ratio > expected[1]:
        return f"{found}, beyond the largest cell {control(diagnosis)} ({_times(expected[1])})"
    chance = f"{_times(expected[1])} {control(diagnosis)}"
    if diagnosis.windows < enough(diagnosis):
        return f"Too few windows to decide ({diagnosis.windows}): {_times(ratio)} at most ({where}), {chance}"
    return f"No tail is inflated beyond chance: {_times(ratio)} at most ({where}), {chance}"


def _inside(diagnosis: Diagnosis, which: str, layer: int, band: int) -> bool:
    """Whether the null's range holds the map's cell."""
    tensor, side = which.split("/")
    null, ratio = diagnosis.tails[which].null, diagnosis.tail_inflation[side][tensor][layer][band]
    if null is None or ratio is None:
        return False
    low, high = null.map_low[layer][band], null.map_high[layer][band]
    return low is not None and high is not None and low <= ratio <= high


def _null_words(diagnosis: Diagnosis, which: str, layer: int, band: int) -> str:
    null = diagnosis.tails[which].null
    if null is None or (low := null.map_low[layer][band]) is None or (high := null.map_high[layer][band]) is None:
        return ""
    return f"<br>null: {low:.2f} to {high:.2f} ×"


def _finding(diagnosis: Diagnosis, cell: Cell) -> str:
    which, layer, head, band = cell
    seen = diagnosis.tails[which]
    ratio, low, high = (getattr(seen, name)[layer][head][band] for name in ("ratio", "low", "high"))
    if ratio is None:
        return "nothing to compare"
    found = f"tail {_times(ratio)} short context"
    if low is None or high is None:
        found += ", without an interval"
    else:
        found += f" [{low:.2f}, {high:.2f}]" + ("; 1 lies inside: no significant growth" if low <= 1 <= high else "")
    if seen.null is None:
        return found
    least, most = seen.null.low[layer][head][band], seen.null.high[layer][head][band]
    if least is None or most is None:
        return found
    if diagnosis.windows < enough(diagnosis) and least <= ratio <= most:
        return f"{found}; too few windows to distinguish it from the null {least:.2f} to {most:.2f}"
    return f"{found}; {'inside' if least <= ratio <= most else 'outside'} the null {least:.2f} to {most:.2f}"


def _worst(diagnosis: Diagnosis, which: str) -> Cell:
    ratio = diagnosis.tails[which].ratio
    known = [
        (v, (which, i, h, b))
        for i, heads in enumerate(ratio)
        for h, row in enumerate(heads)
        for b, v in enumerate(row)
        if v is not None
    ]
    return max(known, key=lambda pair: pair[0], default=(1.0, (which, 0, 0, 0)))[1]


def _ratio(diagnosis: Diagnosis, cell: Cell) -> float:
    which, layer, head, band = cell
    return diagnosis.tails[which].ratio[layer][head][band] or 0.0


def _kinds_measured(diagnosis: Diagnosis) -> list[str]:
    return [which for which in TENSORS if which in diagnosis.tails]


def _times(ratio: float | None) -> str:
    return "no data" if ratio is None else f"{ratio:.2f} ×"


FIGURES: dict[str, Draw] = {
    "tails": lambda diagnosis: [overview(diagnosis)],
    "tails_survival": lambda diagnosis: [survival(diagnosis, worst_cell(diagnosis))],
}
