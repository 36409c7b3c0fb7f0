"""What Streamlit's theme options do not reach: colours of text on figures, in captions, in code and on controls.

Every rule takes the colour of the text around it, so it holds in both themes. With it all text has a contrast of at
least 4.5:1, which the browser tests measure. Choices that do not fit into one line take more lines. In a window of
half a screen the menu and the margins give way to the figures, so that none has to be scrolled from 800 pixels on.
"""

from __future__ import annotations

import streamlit as st

from qroar_core.figures.readable import THEMED

ROOM = 620  # pixels that every figure has: in a narrower box it is scrolled, where its words would be cut or overlap
TOP = 4  # rem above a page's title, just below Streamlit's own bar: a page's answer is to fit into a first screen
MENU, UNASKED = 200, 300  # pixels of the sidebar: as app.py asks, and as it comes where that arrives too late
LEAST, MIDDLE, MOST = 768, 900, 1060  # pixels of a window: below the least, Streamlit lays the menu over the page
TILE = "tile"  # with a word behind it, the key of a box of the Overview page, whose small figures need less room
TILE_ROOM = 290  # pixels of such a box
UNSEEN = "unseen"  # the key of what is on a page without being shown
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
[data-testid="stMain"] :is(h1, h2, h3, h4):focus-visible {{
  outline: none; box-shadow: 0 0 0 2px currentColor; border-radius: 4px;  /* see focus.py */
}}
[data-testid="stFullScreenFrame"]:has([data-testid="stPlotlyChart"]) {{ min-width: {ROOM}px; }}
[class*="st-key-{TILE}-"] [data-testid="stFullScreenFrame"]:has([data-testid="stPlotlyChart"]) {{ min-width: 0; }}
[data-testid="stColumn"]:has([class*="st-key-{TILE}-"]) {{ min-width: {TILE_ROOM}px; }}
.st-key-{UNSEEN} {{ display: none; }}
[data-testid="stMainBlockContainer"] {{ padding-top: {TOP}rem; }}
[data-testid="stSidebarContent"]:not(:has([data-testid="stSidebarUserContent"] :is(p, button)))
  [data-testid="stSidebarNavSeparator"] {{ visibility: hidden; }}
.st-key-first-row:has([data-testid="stPopover"]) [data-testid="stBaseButton-primary"] {{  /* a model is there */
  background: transparent !important; color: inherit !important; border-color: currentColor !important;
}}
@media (min-width: {MIDDLE + 1}px) {{
  [data-testid="stSidebar"][data-collapsed="false"][style*="width: {UNASKED}px"] {{
    width: {MENU}px !important; min-width: {MENU}px !important;
  }}
}}
@media (min-width: {LEAST}px) and (max-width: {MOST}px) {{
  [data-testid="stMainBlockContainer"] {{ padding-left: 0.625rem; padding-right: 0.625rem; }}
}}
@media (min-width: {LEAST}px) and (max-width: {MIDDLE}px) {{
  [data-testid="stSidebar"][data-collapsed="false"] {{
    width: 140px !important; min-width: 140px !important; max-width: 140px !important;
  }}
  [data-testid="stSidebarContent"] {{ padding-left: 0.375rem; padding-right: 0.375rem; }}
  [data-testid="stVerticalBlock"]:has(> * > [data-testid="stFullScreenFrame"] [data-testid="stPlotlyChart"]) {{
    padding-left: 0.375rem; padding-right: 0.375rem;
  }}
}}
</style>"""


def apply_theme() -> None:
    """Put the rules into the page. app.py does so at every run, before anything is drawn."""
    st.html(STYLE)
