"""Scales by hand: a slider per band, and the cached error beside the other candidates'."""

from __future__ import annotations

import streamlit as st

from pages.parts.candidates import manual_log2, set_manual
from pages.parts.choice import REACH
from pages.parts.tune.bands import STEP
from qroar_core.escape import literal
from qroar_core.maths.rescale import Scales
from qroar_core.searching.frame import Plan
from qroar_core.searching.probe import Probe
from qroar_core.specs.words import COUNTED

WIDTH = 130  # pixels of a slider


def sliders(plan: Plan) -> None:
    """One slider per band, always at what is held by hand; dragging one changes it, before the page is drawn again."""
    bands, mode = plan.none.bands, plan.none.mode
    held = manual_log2(bands, mode)
    with st.container(horizontal=True, key="sliders by hand"):
        for band, (first, last) in enumerate(bands):
            key = f"by hand {band}"
            at = min(REACH, max(-REACH, held[band]))
            if st.session_state.get(key) != at:
                st.session_state[key] = at
            st.slider(f"Band {band:d}", -REACH, REACH, step=STEP, key=key, format="%.2f", on_change=_dragged,
                      args=(plan, band), help=f"log2 g of pairs {first:d}–{last:d}", width=WIDTH)  # fmt: skip


def errors(probe: Probe, offered: dict[str, tuple[Scales, str]]) -> None:
    """The cached error of every candidate, as numbers side by side."""
    row = st.container(horizontal=True, key="errors of the candidates")
    plain = {"border": True, "delta_color": "off", "delta_arrow": "off", "width": "content"}
    row.metric("no scales", "1.0000", "the unit", help="The cached error without scales", **plain)
    for name, (scales, said) in offered.items():
        value = probe.value(scales)
        same = f"{value:.4f}" == "1.0000"
        look = plain if same else {"border": True, "delta_color": "inverse", "width": "content"}
        change = "no change" if same else f"{value - 1:+.1%}"
        row.metric(literal(name), f"{value:.4f}", change, help=literal(said), **look)


def alone(probe: Probe, manual: Scales | None) -> None:
    """What every moved band does by itself."""
    if manual is None:
        return
    moved = [b for b, g in enumerate(manual.g[0, 0].tolist()) if g != 1]
    parts = probe.alone(manual)
    st.caption(literal(f"By itself: {', '.join(f'band {b} {parts[b]:.4f}' for b in moved)}."))


def measured(probe: Probe) -> str:
    """On how much text the cached error is taken."""
    windows = f"{probe.windows} calibration window{'s' if probe.windows > 1 else ''}"
    return (
        f"Cached error: {COUNTED[probe.objective.setup.judge]}, mean over layers and KV heads, relative to no "
        f"scales; on {windows} of {probe.length} tokens, {probe.rows} query rows each, "
        f"{probe.seconds * 1000:.0f} ms a try. The least cached error is not always the least perplexity."
    )


def _dragged(plan: Plan, band: int) -> None:
    held = list(manual_log2(plan.none.bands, plan.none.mode))
    held[band] = float(st.session_state[f"by hand {band}"])
    set_manual(plan.none.bands, plan.none.mode, tuple(held))
