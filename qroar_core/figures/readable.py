"""Text on coloured cells: black or white, whichever stands out more from the cell behind it."""

from __future__ import annotations

import plotly.graph_objects as go

BLACK, WHITE = "rgb(0, 0, 0)", "rgb(255, 255, 255)"
SIZE = 12  # pixels
THEMED = f'text:not([style*="fill: {BLACK}"], [style*="fill: {WHITE}"], .hoverlayer text)'
"""CSS selector of a figure's text that follows the page's theme: all of it but the words on cells."""


def rgb_of(colour: str) -> tuple[float, ...]:
    """0 to 255 each, of `#rrggbb` or `rgb(r, g, b)`."""
    if colour.startswith("#"):
        return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2, 0 for black and 1 for white."""
    shares = [value / 255 for value in rgb_of(colour)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2, from 1 to 21."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def ink_on(colour: str) -> str:
    """Black or white: one of them has a contrast of at least 4.58 on any colour."""
    return max(BLACK, WHITE, key=lambda ink: contrast(ink, colour))


def write_on_cells(figure: go.Figure, scale: str, low: float, high: float) -> None:
    """Lay the `text` of the figure's first trace, a heatmap, over its cells.

    Plotly's own cell text has one dark grey and white, which are both hard to read on a middle tone.

    Args:
        scale, low, high: name of the map's colour scale, and the values at its ends.
    """
    from plotly.colors import sample_colorscale

    cells = figure.data[0]
    across = list(cells.x)
    if len(across) > len(cells.z[0]):  # edges
        across = [(left + right) / 2 for left, right in zip(across, across[1:])]
    written = [
        (x, y, value, word)
        for y, values, words in zip(cells.y, cells.z, cells.text)
        for x, value, word in zip(across, values, words)
        if value is not None and word
    ]
    shares = [min(1.0, max(0.0, (value - low) / ((high - low) or 1.0))) for _, _, value, _ in written]
    inks = [ink_on(colour) for colour in (sample_colorscale(scale, shares) if shares else [])]
    figure.add_scatter(
        x=[x for x, *_ in written],
        y=[y for _, y, *_ in written],
        text=[word for *_, word in written],
        mode="text",
        textfont={"color": inks, "size": SIZE},
        hoverinfo="skip",
        showlegend=False,
    )
