"""Tail inflation: do q and k reach further at long context than at short, band by band?"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.maps import Panel, clickable, column_at, frame, side_by_side
from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, framed
from qroar_core.results import Diagnosis

NAMES = {"k/post": "K after RoPE", "k/pre": "K before RoPE", "q/post": "Q after RoPE", "q/pre": "Q before RoPE"}
Cell = tuple[str, int, int, int]  # "k/post", layer, KV head, band


def worst_cell(diagnosis: Diagnosis) -> Cell:
    """Where the tail is inflated most, K after RoPE first: that is what a K cache quantizes."""
    return _worst(diagnosis, "k/post")


def overview(diagnosis: Diagnosis, picked: Cell | None = None) -> Picture:
    """Four maps of the ratio of 1 - eps quantiles, long over short, largest over KV heads; cells can be clicked."""
    kept, count = _kept(diagnosis), len(diagnosis.bands)
    panels = []
    for which in kept:
        tensor, side = which.split("/")
        columns = [str(b.index) for b in diagnosis.bands]
        z = diagnosis.tail_inflation[side][tensor]
        panels.append(Panel(NAMES[which], z, columns, "band, fast to slow", "band"))
    figure = side_by_side(panels, diagnosis.layer_names(), "× short", middle=1.0)
    cells = [
        (at, which, layer, band, ratio)
        for at, which in enumerate(kept)
        for layer, row in enumerate(panels[at].z)
        for band, ratio in enumerate(row)
    ]
    clickable(
        figure, [column_at(at, band, count) for at, _, _, band, _ in cells], [layer for _, _, layer, _, _ in cells],
        [[which, layer, band] for _, which, layer, band, _ in cells],
        [f"{NAMES[which]}, layer {diagnosis.layer_number(layer)}, band {band}: {_times(ratio)}"
         for _, which, layer, band, ratio in cells],
    )  # fmt: skip
    if picked is not None:
        which, layer, _, band = picked
        left, right = (column_at(kept.index(which), edge, count) for edge in (band - 0.5, band + 0.5))
        figure.update_layout(shapes=[frame(left, layer - 0.5, right, layer + 0.5)])
    worst = max((_worst(diagnosis, which) for which in kept), key=lambda cell: _ratio(diagnosis, cell))
    table = pd.DataFrame([row for which in kept for row in _largest(diagnosis, which)])
    return Picture(
        f"{NAMES[worst[0]]} reaches furthest: {_times(_ratio(diagnosis, worst))} short context "
        f"(layer {diagnosis.layer_number(worst[1])}, band {worst[3]})",
        figure,
        table,
        f"Quantile {1 - diagnosis.eps:g} of |x| at {diagnosis.length} tokens over that at {diagnosis.short_length}, "
        "largest over KV heads. Above 1 the band needs more range at long context, and every channel that shares its "
        "scale pays. Click a cell for its two distributions.",
    )


def survival(diagnosis: Diagnosis, cell: Cell) -> Picture:
    """Share of entries above a value, at long and at short context, with the 1 - eps level marked."""
    which, layer, head, band = cell
    curves, seen, eps = diagnosis.survival[which], diagnosis.tails[which], diagnosis.eps
    figure = go.Figure()
    rows = []
    for side, name, colour, dash in (
        ("long", f"long, {diagnosis.length} tokens", BLUE, "solid"),
        ("short", f"short, {diagnosis.short_length} tokens", ORANGE, "dash"),
    ):
        values = getattr(curves, side)[layer][head][band]
        level = getattr(seen, side)[layer][head][band]
        points = sorted({(p, v) for p, v in zip([*curves.share, eps], [*values, level]) if v}, reverse=True)
        figure.add_scatter(
            x=[v for _, v in points], y=[p for p, _ in points], mode="lines", name=name,
            line={"color": colour, "dash": dash, "width": 2.5},
            hovertemplate=f"%{{y:.3~%}} of entries above %{{x:.4g}}<extra>{side}</extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[level], y=[eps], mode="markers", showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "diamond"},
            hovertemplate=f"quantile {1 - eps:g}, {side}: %{{x:.6g}}<extra></extra>",
        )  # fmt: skip
        rows += [{"context": side, "share_above": p, "value": v} for p, v in points]
    framed(figure, f"|{which[0]}|, value", "share of entries above", log_x=True, log_y=True, height=420)
    figure.update_yaxes(tickformat=".3~%", dtick=1)
    figure.add_hline(y=eps, line={"color": GREY, "dash": "dot"})
    figure.add_annotation(text=f"1 − ε level, ε = {eps:g}", xref="paper", x=0.01, y=math.log10(eps), yanchor="bottom",
                          showarrow=False)  # fmt: skip
    return Picture(
        f"{NAMES[which]}, layer {diagnosis.layer_number(layer)}, head {head}, band {band}: {_finding(diagnosis, cell)}",
        figure,
        pd.DataFrame(rows),
        "The same tokens read twice, deep in the long context and at the end of a short one. Where the blue line runs "
        "right of the orange, values are larger at long context; the ratio is taken between the diamonds. Values are "
        f"exact beyond the level and within {curves.body_bound:.0%} before it.",
    )


def loudest_head(diagnosis: Diagnosis, which: str, layer: int, band: int) -> int:
    """The KV head whose ratio the map shows in this cell."""
    ratios = [head[band] or 0.0 for head in diagnosis.tails[which].ratio[layer]]
    return ratios.index(max(ratios))


def _largest(diagnosis: Diagnosis, which: str) -> list[dict]:
    """One row a cell of the map: of the KV heads the one with the largest ratio, its interval and quantiles."""
    seen = diagnosis.tails[which]
    rows = []
    for layer, heads in enumerate(seen.ratio):
        for band in range(len(heads[0])):
            head = loudest_head(diagnosis, which, layer, band)
            row = {"tensor": NAMES[which], "layer": diagnosis.layer_number(layer), "band": band, "kv_head": head}
            row |= {f: getattr(seen, f)[layer][head][band] for f in ("ratio", "low", "high", "long", "short")}
            rows.append(row | {"over_native_rope": seen.native[layer][head][band] if seen.native else None})
    return rows


def _finding(diagnosis: Diagnosis, cell: Cell) -> str:
    which, layer, head, band = cell
    seen = diagnosis.tails[which]
    ratio, low, high = (getattr(seen, name)[layer][head][band] for name in ("ratio", "low", "high"))
    if ratio is None:
        return "nothing to compare"
    if low is None or high is None:
        return f"tail {_times(ratio)} short context, without an interval"
    proven = "; 1 lies inside: no proven inflation" if low <= 1 <= high else ""
    return f"tail {_times(ratio)} short context [{low:.2f}, {high:.2f}]{proven}"


def _worst(diagnosis: Diagnosis, which: str) -> Cell:
    ratio = diagnosis.tails[which].ratio
    known = [
        (v, (which, i, h, b)) for i, heads in enumerate(ratio) for h, row in enumerate(heads) for b, v in enumerate(row)
        if v is not None
    ]  # fmt: skip
    return max(known, key=lambda pair: pair[0], default=(1.0, (which, 0, 0, 0)))[1]


def _ratio(diagnosis: Diagnosis, cell: Cell) -> float:
    which, layer, head, band = cell
    return diagnosis.tails[which].ratio[layer][head][band] or 0.0


def _kept(diagnosis: Diagnosis) -> list[str]:
    return [which for which in NAMES if which in diagnosis.tails]


def _times(ratio: float | None) -> str:
    return "no data" if ratio is None else f"{ratio:.2f} ×"
