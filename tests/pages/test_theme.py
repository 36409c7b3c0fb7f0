"""Contrast of the themes' colours by WCAG 2, as Streamlit mixes them; the browser tests measure what is drawn."""

import tomllib
from pathlib import Path

import pytest

from pages.views.theme import STYLE
from qroar_core.figures.readable import THEMED, contrast, rgb_of

ROOT = Path(__file__).parents[2]
LEAST = 4.5  # WCAG 2, level AA
FADED = 0.6  # Streamlit's opacity of captions, placeholders and table headings
THEME = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]


@pytest.fixture(params=["light", "dark"])
def colours(request):
    return THEME[request.param]


def faded(colour, ground):
    mixed = (FADED * top + (1 - FADED) * under for top, under in zip(rgb_of(colour), rgb_of(ground)))
    return f"rgb({', '.join(f'{value:.1f}' for value in mixed)})"


def test_text_and_captions_stand_out_on_the_page_and_on_the_sidebar(colours):
    for ground in (colours["backgroundColor"], colours["secondaryBackgroundColor"]):
        assert contrast(colours["textColor"], ground) >= LEAST
        assert contrast(faded(colours["textColor"], ground), ground) >= LEAST


def test_a_primary_button_and_a_link_are_readable(colours):
    assert contrast("#FFFFFF", colours["primaryColor"]) >= LEAST  # Streamlit writes white on it
    assert contrast(colours["linkColor"], colours["backgroundColor"]) >= LEAST


def test_text_of_figures_takes_the_colour_of_the_page(colours):
    assert f".js-plotly-plot .main-svg {THEMED} {{ fill: currentColor" in STYLE
