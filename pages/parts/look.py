"""What Streamlit's theme options do not reach: colours of text on figures, in captions, in code and on controls.

Every rule takes the colour of the text around it, so it holds in both themes. With it all text has a contrast of at
least 4.5:1, which the browser tests measure. Choices that do not fit into one line take more lines.
"""

from __future__ import annotations

import streamlit as st

from qroar_core.figures.readable import THEMED

ROOM = 640  # pixels that every figure has: in a narrower window it is scrolled, where its words would be cut or overlap
STYLE = f"""<style>
.js-plotly-plot .main-svg {THEMED} {{ fill: currentColor !important; }}
.js-plotly-plot :is(.updatemenu-item-rect, .slider-rail-rect) {{ fill: transparent !important; }}
.js-plotly-plot .legend .traces[style*="opacity: 0.5"] {{ opacity: 0.75 !important; }}
[data-testid="stCaptionContainer"] code, [data-testid="stCode"] span {{ color: inherit !important; }}
:is([data-testid="stSliderThumbValue"], [data-testid="stSliderThumbValue"] *) {{ color: inherit !important; }}
:is([role="tab"], [data-testid="stButtonGroup"] button) {{ color: inherit !important; }}
:is([role="tab"], [data-testid="stButtonGroup"] button) * {{ color: inherit !important; }}
[data-testid="stMultiSelectTagsContainer"] {{ flex-wrap: wrap !important; mask-image: none !important; }}
:has(> [data-testid="stMultiSelectTagsContainer"]) {{ max-height: none !important; height: auto !important; }}
[data-testid="stButtonGroup"] [role="radiogroup"] {{ flex-wrap: wrap !important; mask-image: none !important; }}
[data-testid="stFullScreenFrame"]:has([data-testid="stPlotlyChart"]) {{ min-width: {ROOM}px; }}
</style>"""


def look() -> None:
    """Put the rules into the page. app.py does so at every run, before anything is drawn."""
    st.html(STYLE)
