"""Scales by hand: a slider per band, and the cached error beside the other candidates'."""

from __future__ import annotations

import streamlit as st

from pages.forms.bands import STEP
from pages.state.candidates import manual_log2, set_manual
from pages.state.choice import REACH
from pages.state.clicks import carried_out
from qroar_core.escape import literal
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.number_of import number_of
from qroar_core.scale_search.manual_scales import Probe
from qroar_core.scale_search.problem import SearchPlan
from qroar_core.transforms.scales import Scales

WIDTH = 130  # pixels of a slider


def sliders(plan: SearchPlan) -> None:
    """One slider per band, always at what is held by hand; dragging one changes it, before the page is drawn again."""
    bands, mode = plan.none.bands, plan.none.mode
    held = manual_log2(bands, mode)
    with st.container(horizontal=True, key="sliders by hand"):
        for band, (first, last) in enumerate(bands):
            key = f"by hand {band}"
            at = min(REACH, max(-REACH, held[band]))
            if st.session_state.get(key) != at:
                st.session_state[key] = at
            st.slider(
                f"Band {band:d}",
                -REACH,
                REACH,
                step=STEP,
                key=key,
                format="%.2f",
                on_change=_dragged,
                args=(plan, band),
                help=f"log2 g of pairs {first:d}–{last:d}",
                width=WIDTH,
            )


def errors(probe: Probe, offered: dict[str, tuple[Scales, str]]) -> None:
    """The cached error of every candidate, as numbers side by side."""
    row = st.container(horizontal=True, key="errors of the candidates")
    row.metric(
        "no scales",
        "1.0000",
        "the unit",
        delta_color="off",
        delta_arrow="off",
        help="The cached error without scales",
        border=True,
        width="content",
    )
    for name, (scales, said) in offered.items():
        value = probe.value(scales)
        same = f"{value:.4f}" == "1.0000"
        row.metric(
            literal(name),
            f"{value:.4f}",
            "no change" if same else f"{value - 1:+.1%}",
            delta_color="off" if same else "inverse",
            delta_arrow="off" if same else "auto",
            help=literal(said),
            border=True,
            width="content",
        )


def alone(probe: Probe, manual: Scales | None) -> None:
    """What every moved band does by itself."""
    if manual is None:
        return
    moved = [b for b, g in enumerate(manual.g[0, 0].tolist()) if g != 1]
    parts = probe.alone(manual)
    st.caption(literal(f"By itself: {', '.join(f'band {b} {parts[b]:.4f}' for b in moved)}."))


def measured(probe: Probe) -> str:
    """On how much text the cached error is taken."""
    windows = number_of(probe.windows, "calibration window")
    metric = error_metrics()[probe.objective.setup.error_metric].label
    without = "It is taken under the tie without a polish. " if probe.polish else ""
    return (
        f"Cached error: {metric}, mean over layers and KV heads, relative to no scales; on "
        f"{windows} of {probe.length} tokens, {number_of(probe.rows, 'query row')} each, "
        f"{probe.seconds * 1000:.0f} ms a try. {without}The least cached error is not always the least perplexity."
    )


@carried_out
def _dragged(plan: SearchPlan, band: int) -> None:
    held = list(manual_log2(plan.none.bands, plan.none.mode))
    held[band] = float(st.session_state[f"by hand {band}"])
    set_manual(plan.none.bands, plan.none.mode, tuple(held))
