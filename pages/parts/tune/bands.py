"""The table of bands: what the diagnosis says of each, its bounds and its scale by hand, both to edit."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from pages.parts import session
from pages.parts.candidates import manual_log2, set_manual
from pages.parts.choice import REACH
from pages.parts.forms import made
from qroar_core.escape import literal
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting
from qroar_core.searching.frame import Plan

FIXED = ("band", "pairs", "wavelength", "pressure", "tail_k", "tail_q", "noise")
EDITED = ("low", "high", "by_hand")
STEP = 0.05
VERSION = "bands table version"  # raised where the table has to forget what was typed
HELD = "bounds and scales of the bands table"  # session: what the table took last, or was last drawn with


def bands_table(setting: Setting, plan: Plan, diagnosis: Diagnosis | None) -> None:
    """Draw the table; edited bounds change the search's spec and the address, edited scales what is held by hand."""
    bands, mode = plan.none.bands, plan.none.mode
    if diagnosis is not None and [(b.first_pair, b.last_pair) for b in diagnosis.bands] != list(bands):
        diagnosis = None  # of other bands
    held = (setting.search.bounds, manual_log2(bands, mode))
    if st.session_state.setdefault(HELD, held) != held:  # changed elsewhere: by a slider, a link, Back
        st.session_state[HELD] = held
        forget_typed()
    shown = table(plan, diagnosis, held[1])
    key = f"bands {st.session_state.setdefault(VERSION, 0)} {hash((bands, mode))}"
    edited = st.data_editor(
        shown, key=key, hide_index=True, disabled=FIXED, column_config=_columns(setting.search.grid_points),
        column_order=[*(name for name in FIXED if shown[name].notna().any()), *EDITED],
        alt="One row per band: diagnostics, bounds of the search, scale by hand",
    )  # fmt: skip
    _take_manual(setting, plan, tuple(float(x) for x in edited["by_hand"].fillna(0.0)))
    _take_bounds(setting, shown, edited)
    with st.container(horizontal=True, vertical_alignment="center"):
        if setting.search.bounds is not None and st.button("Back to the diagnosed bounds", icon=":material/undo:"):
            _choose_bounds(setting, None)
        st.caption(literal(_where_from(setting, diagnosis is not None)))


def table(plan: Plan, diagnosis: Diagnosis | None, manual: tuple[float, ...]) -> pd.DataFrame:
    """One line per band. Tails and noise are the largest over layers, bounds the widest over layers."""
    bands = plan.none.bands
    tails = diagnosis.tail_inflation["post"] if diagnosis else {}
    noise = diagnosis.logit_noise.by_band if diagnosis and diagnosis.logit_noise else []
    return pd.DataFrame({
        "band": range(len(bands)),
        "pairs": [f"{first}–{last}" for first, last in bands],
        "wavelength": [f"{_tokens(low)}–{_tokens(high)}" for low, high in plan.wavelengths],
        "pressure": plan.pressure.tolist(),
        "tail_k": _largest(tails.get("k", []), len(bands)),
        "tail_q": _largest(tails.get("q", []), len(bands)),
        "noise": _largest(noise, len(bands)),
        "low": [round(x, 2) + 0.0 for x in plan.bounds[..., 0].amin(0).tolist()],  # + 0.0: no "-0.00"
        "high": [round(x, 2) for x in plan.bounds[..., 1].amax(0).tolist()],
        "by_hand": manual,
    })  # fmt: skip


def forget_typed() -> None:
    """Let the table show what is remembered instead of what was typed into it."""
    st.session_state[VERSION] = st.session_state.get(VERSION, 0) + 1


def _tokens(count: float) -> str:
    """`6.28`, `117`, `2.5k`, `79k`."""
    if count < 1000:
        return f"{count:.3g}"
    return f"{count / 1000:.1f}k" if count < 10_000 else f"{count / 1000:.0f}k"


def _largest(by_layer: list, count: int) -> list[float | None]:
    columns = [[row[b] for row in by_layer if row[b] is not None] for b in range(count)]
    return [max(column) if column else None for column in columns]


def _columns(grid_points: int) -> dict:
    number = st.column_config.NumberColumn
    return {
        "band": number("band", help="0 turns fastest"),
        "pairs": st.column_config.TextColumn("pairs", help="RoPE pairs, first–last"),
        "wavelength": st.column_config.TextColumn("wavelength", help="Tokens, shortest–longest, interpolated"),
        "pressure": number("pressure", format="%.3g",
                           help="How far its angles move if the stretch grows 2.7 times, rad"),
        "tail_k": number("K tail", format="%.2f", help="How much larger the largest values of K after RoPE get at "
                                                       "long context; the largest layer's"),
        "tail_q": number("q tail", format="%.2f", help="How much larger the largest values of q after RoPE get at "
                                                       "long context; the largest layer's"),
        "noise": number("noise", format="%.3f", help="RMS error of the attention logits by quantization, nats; the "
                                                     "largest layer's"),
        "low": number("low", min_value=-16.0, max_value=0.0, step=STEP, format="%.2f", required=True,
                      help="log2 g: the search keeps every scale of the band at or above this"),
        "high": number("high", min_value=0.0, max_value=16.0, step=STEP, format="%.2f", required=True,
                       help=f"log2 g: at or below this; a sweep tries {grid_points} points in between"),
        "by_hand": number("by hand", min_value=-REACH, max_value=REACH, step=STEP, format="%.2f",
                          required=True, help="log2 g, your own scale: 0 leaves the band alone, +1 doubles g"),
    }  # fmt: skip


def _take_manual(setting: Setting, plan: Plan, typed: tuple[float, ...]) -> None:
    """The sliders, drawn after the table, follow what is held."""
    bands, mode = plan.none.bands, plan.none.mode
    if typed != manual_log2(bands, mode):
        set_manual(bands, mode, typed)
        st.session_state[HELD] = (setting.search.bounds, typed)


def _take_bounds(setting: Setting, shown: pd.DataFrame, edited: pd.DataFrame) -> None:
    if edited[["low", "high"]].equals(shown[["low", "high"]]):
        return
    pairs = edited[["low", "high"]].fillna(0.0)
    _choose_bounds(setting, tuple((float(low), float(high)) for low, high in pairs.itertuples(index=False)))


def _choose_bounds(setting: Setting, bounds: tuple[tuple[float, float], ...] | None) -> None:
    spec = made(lambda: replace(setting.search, bounds=bounds), setting.search)
    if spec != setting.search:
        session.choose(replace(session.choice(), search=spec))
        if bounds is None:
            forget_typed()
        st.session_state[HELD] = (bounds, st.session_state[HELD][1])
        st.rerun()


def _where_from(setting: Setting, diagnosed: bool) -> str:
    if setting.search.bounds is not None:
        return "Bounds set by hand, the same in every layer."
    if diagnosed:
        return ("Bounds from the diagnosis: each layer has its own limits; this table shows the loosest. Type another "
                "low or high, and every layer keeps to the limits of this table.")  # fmt: skip
    return ("Bounds from the interpolation alone. A diagnosis of this setting also looks at tails and noise, and "
            "loosens bounds where values grow with length; a search makes it first.")  # fmt: skip
