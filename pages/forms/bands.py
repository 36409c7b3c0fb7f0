"""The table of bands: what the diagnosis says of each, its bounds and its scale by hand, both to edit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypedDict

import pandas as pd
import streamlit as st

from pages.forms.build_spec import build_or_keep
from pages.state import session
from pages.state.candidates import manual_log2, set_manual
from pages.state.choice import REACH
from pages.state.clicks import carried_out
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.escape import literal
from qroar_core.scale_search.problem import SearchPlan
from qroar_core.setting import Setting

FIXED = ("band", "pairs", "wavelength", "pressure", "tail_k", "tail_q", "noise")
Bounds = tuple[tuple[float, float], ...]
EDITED = ("low", "high", "by_hand")
STEP = 0.05
TABLE = "bands table"  # session: a Typed


class Typed(TypedDict):
    """What the table took last, or was last drawn with, in a dict of its own: it is kept with the choice, or not."""

    held: tuple[Bounds | None, tuple[float, ...]]  # bounds of the search, log2 g by hand
    version: int  # raised where the table has to forget what was typed
    whole: bool  # the page is to be drawn again, not this part of it alone


def bands_table(setting: Setting, plan: SearchPlan, diagnosis: Diagnosis | None) -> None:
    """Draw the table; edited bounds change the search's spec and the address, edited scales what is held by hand."""
    bands, mode = plan.none.bands, plan.none.mode
    if diagnosis is not None and [(b.first_pair, b.last_pair) for b in diagnosis.bands] != list(bands):
        diagnosis = None  # of other bands
    held = (setting.search.bounds, manual_log2(bands, mode))
    typed: Typed = st.session_state.setdefault(TABLE, Typed(held=held, version=0, whole=False))
    if typed["whole"]:
        typed["whole"] = False
        st.rerun()
    if typed["held"] != held:  # changed elsewhere: by a slider, a link, Back
        typed.update({"held": held, "version": typed["version"] + 1})
    shown = table(plan, diagnosis, held[1])
    key = f"bands {typed['version']} {hash((bands, mode))}"
    edited = st.data_editor(
        shown,
        key=key,
        hide_index=True,
        disabled=FIXED,
        column_config=_columns(setting.search.grid_points),
        column_order=[*(name for name in FIXED if shown[name].notna().any()), *EDITED],
        alt="One row per band: diagnostics, bounds of the search, scale by hand",
    )
    _take_manual(setting, plan, tuple(float(x) for x in edited["by_hand"].fillna(0.0)), typed)
    _take_bounds(setting, shown, edited, typed)
    with st.container(horizontal=True, vertical_alignment="center"):
        if setting.search.bounds is not None:
            st.button("Back to the diagnosed bounds", on_click=_let_go, args=(setting, typed), icon=":material/undo:")
        st.caption(literal(_where_from(setting, diagnosis is not None)))


def table(plan: SearchPlan, diagnosis: Diagnosis | None, manual: tuple[float, ...]) -> pd.DataFrame:
    """One line per band. Tails and noise are the largest over layers, bounds the widest over layers."""
    bands = plan.none.bands
    tails = diagnosis.tail_inflation["post"] if diagnosis else {}
    noise = diagnosis.logit_noise.by_band if diagnosis and diagnosis.logit_noise else []
    return pd.DataFrame(
        {
            "band": range(len(bands)),
            "pairs": [f"{first}–{last}" for first, last in bands],
            "wavelength": [_range(low, high) for low, high in plan.wavelengths],
            "pressure": plan.pressure.tolist(),
            "tail_k": _largest(tails.get("k", []), len(bands)),
            "tail_q": _largest(tails.get("q", []), len(bands)),
            "noise": _largest(noise, len(bands)),
            "low": [round(x, 2) + 0.0 for x in plan.bounds[..., 0].amin(0).tolist()],  # + 0.0: no "-0.00"
            "high": [round(x, 2) for x in plan.bounds[..., 1].amax(0).tolist()],
            "by_hand": manual,
        }
    )


@carried_out
def _let_go(setting: Setting, typed: Typed) -> None:
    """The table has other bounds than it holds then, and forgets what was typed into it."""
    session.choose(replace(session.choice(), search=replace(setting.search, bounds=None)))
    typed["whole"] = True


def _range(low: float, high: float) -> str:
    """Wavelengths of a band; one where all its pairs have it, as those that stand still do."""
    return _tokens(low) if low == high else f"{_tokens(low)}–{_tokens(high)}"


def _tokens(count: float) -> str:
    """`6.28`, `117`, `2.5k`, `79k`; `∞` of pairs that stand still."""
    if count == math.inf:
        return "∞"
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
        "pressure": number(
            "pressure", format="%.3g", help="How far its angles move if the stretch grows 2.7 times, rad"
        ),
        "tail_k": number(
            "K tail",
            format="%.2f",
            help="How much larger the largest values of K after RoPE get at long context; the largest layer's",
        ),
        "tail_q": number(
            "q tail",
            format="%.2f",
            help="How much larger the largest values of q after RoPE get at long context; the largest layer's",
        ),
        "noise": number(
            "noise", format="%.3f", help="RMS error of the attention logits by quantization, nats; the largest layer's"
        ),
        "low": number(
            "low",
            min_value=-16.0,
            max_value=0.0,
            step=STEP,
            format="%.2f",
            required=True,
            help="log2 g: the search keeps every scale of the band at or above this",
        ),
        "high": number(
            "high",
            min_value=0.0,
            max_value=16.0,
            step=STEP,
            format="%.2f",
            required=True,
            help=f"log2 g: at or below this; a sweep tries {grid_points} points in between",
        ),
        "by_hand": number(
            "by hand",
            min_value=-REACH,
            max_value=REACH,
            step=STEP,
            format="%.2f",
            required=True,
            help="log2 g, your own scale: 0 leaves the band alone, +1 doubles g",
        ),
    }


def _take_manual(setting: Setting, plan: SearchPlan, log2_g: tuple[float, ...], typed: Typed) -> None:
    """The sliders, drawn after the table, follow what is held."""
    bands, mode = plan.none.bands, plan.none.mode
    if log2_g != manual_log2(bands, mode):
        set_manual(bands, mode, log2_g, lambda: typed.update({"held": (setting.search.bounds, log2_g)}))


def _take_bounds(setting: Setting, shown: pd.DataFrame, edited: pd.DataFrame, typed: Typed) -> None:
    if edited[["low", "high"]].equals(shown[["low", "high"]]):
        return
    pairs = edited[["low", "high"]].fillna(0.0)
    bounds = tuple((float(low), float(high)) for low, high in pairs.itertuples(index=False))
    spec = build_or_keep(lambda: replace(setting.search, bounds=bounds), setting.search)
    if spec != setting.search:
        held = (bounds, typed["held"][1])
        session.choose(replace(session.choice(), search=spec), lambda: typed.update({"held": held}))
        st.rerun()


def _where_from(setting: Setting, diagnosed: bool) -> str:
    if setting.search.bounds is not None:
        return "Bounds set by hand, the same in every layer."
    if diagnosed:
        return (
            "Bounds from the diagnosis: each layer has its own limits; this table shows the loosest. Type another "
            "low or high, and every layer keeps to the limits of this table."
        )
    return (
        "Bounds from the interpolation alone. A diagnosis of this setup also measures tails and noise, and "
        "widens bounds where values grow with length; a search runs it first."
    )
