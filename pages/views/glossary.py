"""Terms of art explained where a page uses them, in the words of docs/glossary.md, which a wheel carries too."""

from __future__ import annotations

import re
from functools import cache

import streamlit as st

from pages.state.headings import HEADINGS
from qroar_core.bundled import HOME
from qroar_core.escape import literal

FILE = HOME / "docs" / "glossary.md"
TERMS = {  # name of a page in the menu: the terms of art that it uses, what it is about first
    "Start": (
        *("RoPE", "Interpolation", "Native window", "Tied frequencies", "Quantizer", "K/V cache", "Band", "Verdict"),
    ),
    "Overview": (
        *("NLL", "Gap recovered", "Interval", "Held-out", "Logit noise", "Band", "Null", "Remedy", "K/V cache"),
    ),
    "Learn": (
        *("RoPE", "Pair", "Native window", "Interpolation", "Attention factor", "Tied frequencies", "Aliasing"),
        *("Quantizer", "Step", "Anisotropy", "Band", "Scale", "Transform", "Commute", "Map"),
    ),
    "Bands": (
        *("Band", "Pair", "Interpolation pressure", "Phase displacement", "Tail inflation", "Outlier"),
        *("Logit noise", "Null"),
    ),
    "Pressure": (
        *("Interpolation pressure", "Interpolation", "Phase displacement", "Turns per native window"),
        *("Aliasing", "Side peak", "Logit", "Null"),
    ),
    "Tails": ("Tail inflation", "Dynamic range", "Bits lost", "Band", "Position bin", "Null"),
    "Outliers": ("Outlier", "Band", "Jaccard", "Null"),
    "Noise": ("Logit noise", "Logit", "Anisotropy", "Band", "Quantizer", "Tuned", "Null"),
    "Tune": (
        *("Scale", "Mode", "Granularity", "Pair angle", "Bounds", "Cached objective", "Full objective"),
        *("Decision", "Short-context guard", "Identity", "SmoothAttention", "MAD", "Nats", "Interval"),
    ),
    "Evaluate": (
        *("Held-out", "Reference", "Perplexity", "NLL", "Gain", "Gap", "Gap recovered", "Interval", "Window"),
        *("Attribution", "Retuning", "KL", "Hadamard rotation", "Text checksum"),
    ),
    "Remedies": (
        *("Remedy", "SmoothAttention", "Hadamard rotation", "AWQ", "GPTQ", "Held-out", "Gap recovered", "Interval"),
        "Text checksum",
    ),
    "Sweep": (
        *("Quantizer", "K/V cache", "Interpolation", "Remedy", "Hadamard rotation", "Window", "Held-out", "RoPE"),
    ),
    "Trade-off": (
        *("Pareto front", "K/V cache", "Quantizer", "Remedy", "NLL", "KL", "Needle", "Interval", "Window", "Held-out"),
    ),
    "Retrieval": ("Passkey", "Needle", "Held-out", "McNemar", "Text checksum"),
    "Evidence": (
        *("Controls", "Gain", "Gap", "Interval", "rho_W, rho_A", "Spearman's rho", "Identity", "Text checksum"),
        *("Interpolation", "Attention factor", "Tied frequencies", "NLL", "Held-out"),
    ),
    "Export": ("Scale", "Transform", "Identity", "Interpolation", "Tied frequencies", "QK-norm", "GGUF", "W4A16"),
    "Runs": ("Gain", "Gap recovered", "Interval", "Verdict"),
}


@cache
def entries() -> dict[str, str]:
    """Term -> its sentences, as Markdown, in the glossary's order."""
    return {
        term: " ".join(words.split())
        for term, words in re.findall(r"^## ([^\n]+)\n\n(.*?)(?=^## |\Z)", FILE.read_text("utf-8"), re.S | re.M)
    }


def term_help(term: str) -> str:
    """What the glossary says of it, for the `help` of a control. KeyError where it has no such entry."""
    return entries()[term]


def title(page: str) -> None:
    """A page's heading by its name in the menu, and beside it the terms that the page uses."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(HEADINGS[page], anchor=f"page-{page.lower()}")  # "tails" is the anchor of a figure
        terms_button(page)


def terms_button(page: str) -> None:
    """What the glossary says of each term of a page, behind one button."""
    with st.popover("Terms on this page", icon=":material/menu_book:", type="tertiary", width="content"):
        for term in TERMS[page]:
            st.markdown(f"**{literal(term)}**: {term_help(term)}")
