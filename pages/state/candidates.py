"""Scales a person may choose from: found by a search, from statistics alone, or set by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import streamlit as st
import torch

from pages.state.choice import ByHand
from pages.state.session import MANUAL, choice, choose
from qroar_core.interpolations.bands import Bands
from qroar_core.scale_search.manual_scales import Probe, by_hand
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.specs import Mode
from qroar_core.transforms.scales import Scales

FOUND, SMOOTH, MAD, HAND = "tuned scales", "SmoothAttention", "MAD clipping", "by hand"
OTHER = "other scales"  # none of those that are offered
STATISTICS = "From statistics alone, no search: a baseline."


def candidates(
    outcome: SearchOutcome | None, manual: Scales | None, probe: Probe | None = None
) -> dict[str, tuple[Scales, str]]:
    """Scales by name, each with what is known about them, in the order to show them.

    Args:
        outcome: of a search, finished or cancelled, or None. manual: see `manual_scales`.
        probe: brings the statistics-only scales where no search has.
    """
    offered: dict[str, tuple[Scales, str]] = {}
    if outcome is not None:
        offered[FOUND] = (outcome.found, f"Search: {outcome.report.reason}.")
    source = outcome if outcome is not None else probe
    if source is not None:
        offered |= {SMOOTH: (source.smooth, STATISTICS), MAD: (source.mad, STATISTICS)}
    if manual is not None:
        offered[HAND] = (manual, "One scale per band for the whole model, set by hand.")
    return offered


def manual_log2(bands: Bands, mode: Mode) -> tuple[float, ...]:
    """log2 g per band as set by hand for these bands, in this session or in its address; all 0 until something is."""
    asked, none = choice().hand, (0.0,) * len(bands)
    if asked is not None and (asked.bands, asked.mode) == (bands, mode) and len(asked.log2_g) == len(bands):
        return asked.log2_g
    return st.session_state.setdefault(MANUAL, {}).get((bands, mode), none)


def set_manual(bands: Bands, mode: Mode, log2_g: tuple[float, ...], *also: Callable[[], object]) -> None:
    """Remember log2 g per band for these bands; the address line has what was set last. `also`: see `choose`."""
    held = st.session_state.setdefault(MANUAL, {})
    remember = partial(held.__setitem__, (bands, mode), log2_g)
    choose(replace(choice(), hand=ByHand(bands, mode, log2_g)), remember, *also)


def manual_scales(none: Scales) -> Scales | None:
    """What is set by hand for the bands and mode of the identity scales `none`; None where every band is at 1."""
    log2_g = manual_log2(none.bands, none.mode)
    return by_hand(none, log2_g) if any(log2_g) else None


def name_of(scales: Scales | None, offered: dict[str, tuple[Scales, str]]) -> str:
    """Which of the offered these are; empty for none, `OTHER` where it is none of them."""
    if scales is None:
        return ""
    same = (
        n
        for n, (s, _) in offered.items()
        if s.mode == scales.mode and s.bands == scales.bands and torch.equal(s.point, scales.point)
    )
    return next(same, OTHER)
