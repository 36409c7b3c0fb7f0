"""The controls beside the tuned scales: one forest plot of gains, and what each number format makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from qroar_core.evidence.controls.findings import measured
from qroar_core.evidence.controls.result import Control, Controls, Estimate, Kind, Precision
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, RED, SKY, Picture, framed
from qroar_core.specs.labels import capital

ROW = 44  # pixels
COLOURS: dict[Kind, str] = {
    "tuned": GREEN,
    "unquantized": GREY,
    "bands": RED,
    "heads": ORANGE,
    "text": SKY,
    "seed": BLUE,
}
PARTS = {  # of a number format: words, colour, marker
    "reference": ("its reference above the loaded format's", GREY, "circle-open"),
    "cost": ("quantized above its own reference", RED, "square"),
    "above": ("quantized with scales above its own reference", GREEN, "diamond"),
}


def forest(result: Controls) -> Picture:
    """The gain of every control with its interval, and the span of single draws."""
    controls = result.controls
    names = [_name(control) for control in controls]
    figure = go.Figure()
    spread = [(name, c) for name, c in zip(names, controls) if c.draws > 1]
    figure.add_scatter(
        x=[x for _, c in spread for x in (c.least, c.most, None)],
        y=[name for name, _ in spread for _ in range(3)],
        mode="lines",
        line={"width": 9, "color": "rgba(138,138,138,0.35)"},
        name="single draws",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=[c.gain.mean for c in controls],
        y=names,
        mode="markers",
        showlegend=False,
        marker={
            "size": 12,
            "color": [COLOURS[c.kind] for c in controls],
            "line": {"width": 2},
            "symbol": ["circle" if c.gain.excludes_zero else "circle-open" for c in controls],
        },
        error_x=_bars([c.gain for c in controls]) | {"color": GREY},
        hovertext=[_hover_words(control) for control in controls],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    framed(
        figure,
        "nats per token gained over identity (right of 0 is better)",
        "",
        height=100 + ROW * len(controls),
        legend=False,
    )
    _rows(figure, names)
    percent = f"{result.confidence:.0%}"
    return Picture(
        _title(result),
        figure,
        pd.DataFrame([_line(control) for control in controls]),
        f"Each row: NLL without scales minus NLL with these, same windows, with its {percent} interval; filled where "
        "that excludes 0. Grey bars span single draws. If any scales would do, the shuffled ones would lie where the "
        "tuned ones lie.",
    )


def number_formats(result: Controls) -> Picture | None:
    """What quantization costs with and without scales in each number format. None where only one was measured."""
    known = [one for one in result.precisions if not one.problem]
    if not result.precisions:
        return None
    names = [one.dtype for one in known]
    figure = go.Figure()
    for part, (words, colour, symbol) in PARTS.items():
        shown = [(one.dtype, getattr(one, part)) for one in known if getattr(one, part) is not None]
        figure.add_scatter(
            x=[found.mean for _, found in shown],
            y=[name for name, _ in shown],
            mode="markers",
            name=words,
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2}},
            error_x=_bars([found for _, found in shown]) | {"color": colour},
            hovertext=[measured(found) for _, found in shown],
            hovertemplate=f"%{{y}}: {words}<br>%{{hovertext}}<extra></extra>",
        )
    framed(figure, "NLL above the reference, nats per token", "", height=150 + ROW * max(1, len(known)))
    _rows(figure, names)
    figure.update_layout(margin_t=70)
    left_out = "".join(f" {one.dtype}: {one.problem}." for one in result.precisions if one.problem)
    return Picture(
        "Does the gain depend on the number format of the reference?",
        figure,
        pd.DataFrame([_format_line(one) for one in result.precisions]),
        "Left of 0 a quantized model would be better than its own reference: then that reference is poor, as float16 "
        f"is where values overflow, and the comparison does not measure quantization.{left_out}",
    )


def _title(result: Controls) -> str:
    """The sentence on shuffled bands where there is one, else that on the tuned scales."""
    by_kind = {finding.about: finding.sentence for finding in result.findings}
    sentence = by_kind.get("bands", by_kind["tuned"])
    return capital(sentence)


def _name(control: Control) -> str:
    count = f" ({control.draws} draws)" if control.draws > 1 else ""
    return f"{control.name}{count}"


def _hover_words(control: Control) -> str:
    lines = [f"{control.name}: {measured(control.gain)}"]
    if control.draws > 1:
        lines.append(f"single draws {control.least:+.4f} to {control.most:+.4f}")
    if control.lost is not None:
        lines.append(f"less than the tuned scales by {measured(control.lost)}")
    return "<br>".join(lines)


def _bars(found: Sequence[Estimate]) -> dict:
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1.5,
        "width": 6,
        "array": [one.high - one.mean for one in found],
        "arrayminus": [one.mean - one.low for one in found],
    }


def _rows(figure: go.Figure, names: list[str]) -> None:
    figure.update_yaxes(
        autorange="reversed", automargin=True, type="category", categoryorder="array", categoryarray=names
    )
    figure.add_vline(x=0, line={"color": GREY, "width": 1})


def _line(control: Control) -> dict:
    lost = control.lost
    return {
        "scales": control.name,
        "draws": control.draws,
        "gain_nats": control.gain.mean,
        "ci_low": control.gain.low,
        "ci_high": control.gain.high,
        "least_draw": control.least,
        "most_draw": control.most,
        "less_than_tuned": lost.mean if lost else None,
        "less_low": lost.low if lost else None,
        "less_high": lost.high if lost else None,
    }


def _format_line(one: Precision) -> dict:
    line: dict = {"format": one.dtype, "problem": one.problem}
    for part in ("reference", "cost", "gain", "above"):
        found: Estimate | None = getattr(one, part)
        line |= {
            part: found.mean if found else None,
            f"{part}_low": found.low if found else None,
            f"{part}_high": found.high if found else None,
        }
    return line
