"""What every report is made of: one HTML document without a network, its figures and its tables.

plotly.js stands in the file once; nothing is loaded from anywhere. Figures set no colour of their text but on cells, so
the page gives them its own, light or dark as the reader's system asks.
"""

from __future__ import annotations

import html

import pandas as pd

from qroar_core.figures import Picture
from qroar_core.figures.readable import THEMED
from qroar_core.statistics.digits import ERROR_BESIDE, OF_LARGEST, largest, shown

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem;
       background: Canvas; color: CanvasText; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; } code, pre { font-size: 0.9em; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; } a { color: LinkText; }
.finding { border-left: 4px solid #0072B2; padding: 0.5rem 1rem; font-size: 1.15em; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
.texts > div { border: 1px solid rgba(138, 138, 138, 0.4); border-radius: 0.4rem; padding: 0.6rem 0.8rem; }
.texts p { white-space: pre-wrap; overflow-wrap: anywhere; font: 0.85em/1.5 monospace; margin: 0.4rem 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85em; } th, td { padding: 0.2rem 0.6rem; text-align: right; }
.counts :is(th, td):nth-child(2) { text-align: left; }
tr:nth-child(even) { background: rgba(138, 138, 138, 0.12); } figure { margin: 2rem 0; }
figcaption { opacity: 0.85; }
.js-plotly-plot THEMED { fill: CanvasText !important; }
.js-plotly-plot .updatemenu-item-rect, .js-plotly-plot .slider-rail-rect { fill: Canvas !important; }
.js-plotly-plot .modebar-group { background: transparent !important; }
.js-plotly-plot .modebar-btn path { fill: GrayText !important; }
""".replace("THEMED", THEMED)
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
TABLE_ROWS = 400  # longer tables are cut here; the JSON files hold every number
PLOT = {"displaylogo": False, "responsive": True}


def page(title: str, body: str) -> str:
    """The document: `title` is plain text, `body` HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{text(title)}</title>
<style>{STYLE}</style><script>{_plotly()}</script></head><body>
{body}
</body></html>
"""


def figure_html(picture: Picture) -> str:
    """A figure with how to read it and its numbers."""
    drawn = picture.figure.to_html(full_html=False, include_plotlyjs=False, config=PLOT)
    rows = picture.table.head(TABLE_ROWS)
    cut = "" if len(rows) == len(picture.table) else f"<p>First {TABLE_ROWS} of {len(picture.table)} rows.</p>"
    table = table_html(rows)
    return (
        f'<figure aria-label="{html.escape(picture.alt, quote=True)}"><h3>{text(picture.title)}</h3>{drawn}'
        f"<figcaption>{text(f'{picture.how_to_read} {picture.sample}'.strip())}</figcaption>"
        f'<details><summary>The numbers</summary><div class="scroll">{table}</div>{cut}</details></figure>\n'
    )


def table_html(frame: pd.DataFrame) -> str:
    """Digits as the sample supports them where that is known, else five, as a page's table of numbers has about."""
    beside = {name: frame[error] for name, error in ERROR_BESIDE.items() if name in frame and error in frame}
    frame = frame.assign(
        **{name: [shown(*pair) for pair in zip(frame[name], errors)] for name, errors in beside.items()}
    )
    magnitudes = {name: largest for name in frame if name in OF_LARGEST}
    return frame.to_html(index=False, border=0, float_format=lambda x: f"{x:.5g}", na_rep="", formatters=magnitudes)


def text(words: str) -> str:
    """Plain words as HTML."""
    return html.escape(words)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()
