"""What makes any figure readable without colour: traces told apart by dashes, symbols and hatching.

Lines get dashes and symbols, points symbols, bars hatching.
About one reader in twelve sees some pairs of colours as one, and prints are grey. What a figure has chosen stays,
because its caption may name it; only traces that would differ by nothing but colour get a mark of their own.
"""

from __future__ import annotations

from itertools import product

import plotly.graph_objects as go

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down", "pentagon", "hourglass")
HATCHES = ("", "/", "x", ".", "\\", "-", "+", "|")
MARKS = 12  # symbols shown along a line that is not made of measured points

Look = tuple[str, ...]


def tell_apart(figure: go.Figure) -> None:
    """Give named traces of one panel that differ by colour alone a dash, a symbol or a hatching, in place."""
    groups: dict[tuple, list] = {}  # lines and points of one group each for themselves
    for trace in figure.data:
        if told_by_shape(trace):
            mode = getattr(trace, "mode", None) or "lines"
            groups.setdefault((trace.legendgroup or trace.name, trace.type, mode), []).append(trace)
    looks = {name: look(traces[0]) for name, traces in groups.items()}
    taken = {(panel, looks[name]) for name, traces in groups.items() for panel in map(panel_of, traces)}
    kept: set = set()
    for name, traces in groups.items():
        panels = {panel_of(trace) for trace in traces}
        if any((panel, looks[name]) in kept for panel in panels):
            free = (new for new in others(traces[0]) if not any((panel, new) in taken for panel in panels))
            looks[name] = next(free, looks[name])
            for trace in traces:
                draw(trace, looks[name])
        kept |= {(panel, looks[name]) for panel in panels}
        taken |= kept


def told_by_shape(trace: go.Scatter | go.Bar) -> bool:
    """Whether a trace has a name and a line, points or bars; areas and text are told apart by where they are."""
    if trace.type == "bar":
        return bool(trace.legendgroup or trace.name)
    drawn = trace.type == "scatter" and trace.fill in (None, "none") and (trace.mode or "lines") not in ("none", "text")
    return drawn and bool(trace.legendgroup or trace.name)


def panel_of(trace: go.Scatter | go.Bar) -> tuple[str, str]:
    """The axes a trace is drawn on."""
    return trace.xaxis or "x", trace.yaxis or "y"


def look(trace: go.Scatter | go.Bar) -> Look:
    """What is left of a trace in a grey print."""
    if trace.type == "bar":
        return "bar", str(trace.marker.pattern.shape or "")
    mode = trace.mode or "lines"
    dash = (trace.line.dash or "solid") if "lines" in mode else ""
    symbol = str(trace.marker.symbol or "circle") if "markers" in mode else ""
    return "scatter", dash, symbol


def others(trace: go.Scatter | go.Bar) -> list[Look]:
    """Looks to try for a trace, nearest to its own first."""
    kind, *own = look(trace)
    if kind == "bar":
        return [("bar", hatch) for hatch in HATCHES]
    dash, symbol = own
    if symbol:  # the same one open or filled first: the symbol may mean something
        twin = symbol.removesuffix("-open") if symbol.endswith("-open") else f"{symbol}-open"
        return [("scatter", d, s) for d, s in product([dash, *(DASHES if dash else ())], [twin, *SYMBOLS])]
    dashes = DASHES if dash == "solid" else (dash,)  # a chosen dash means something
    return [("scatter", d, s) for s, d in product(["", *SYMBOLS], dashes)]


def draw(trace: go.Scatter | go.Bar, new: Look) -> None:
    """Give a trace this look."""
    if new[0] == "bar":
        trace.marker.pattern.shape = new[1]
        return
    _, dash, symbol = new
    if dash:
        trace.line.dash = dash
    if symbol:
        if "markers" not in (trace.mode or "lines"):
            trace.mode = f"{trace.mode or 'lines'}+markers"
            trace.marker.maxdisplayed = MARKS
        trace.marker.symbol = symbol
