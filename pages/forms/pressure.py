"""Window, distance law and factor of the Pressure page: a look around that leaves the setting alone."""

from __future__ import annotations

from typing import get_args

import streamlit as st

from pages.state.widget_state import fill, menu, number
from pages.views.boxes import refused
from qroar_core.errors import QRoarError
from qroar_core.interpolations.checkpoint_rope import in_force
from qroar_core.interpolations.pressure_of_methods import pressures
from qroar_core.interpolations.result import Pressures
from qroar_core.models.layer_groups import LayerGroup
from qroar_core.models.loaded import LoadedModel
from qroar_core.setting import Setting
from qroar_core.specs import DistanceLaw

LONGEST = 2**24  # tokens
MOST = 1e6  # factor
LAW_WORDS = {
    "causal": "causal: each query and its keys",
    "uniform": "uniform: every distance equally",
}
WITHOUT_METHOD = 4.0  # the factor the methods are compared at while none is in force, the checkpoint's own included


def compared(loaded: LoadedModel, setting: Setting, group: LayerGroup) -> Pressures | None:
    """The controls, and every method's pressure on `group` under them; None, with the reason shown, where none acts."""
    if not group.interpolated:
        st.info("These layers keep the RoPE they ship with: no interpolation changes them.", icon=":material/info:")
        return None
    rope = setting.rope
    stretched, _ = in_force(loaded, rope, group.kind)
    factor = WITHOUT_METHOD if stretched.method == "default" else min(stretched.factor, MOST)
    length = min(setting.search.length or loaded.geometry.original_context, LONGEST)
    fill(
        "pressure",
        (loaded.checksum, rope, length, setting.diagnosis.law),
        {"pressure length": length, "pressure law": setting.diagnosis.law, "pressure factor": factor},
    )
    one, two, three = st.columns([1, 2, 1])
    length = number(
        one,
        "Window L, tokens",
        2,
        LONGEST,
        "pressure length",
        persist_state="session",
        step=max(2, loaded.geometry.original_context // 2),
    )
    law = menu(
        two,
        "Weighting of distances",
        get_args(DistanceLaw),
        "pressure law",
        format_func=LAW_WORDS.__getitem__,
        persist_state="session",
    )
    factor = number(three, "Factor s compared", 1.0, MOST, "pressure factor", step=0.5, persist_state="session")
    st.caption(
        "Computed from the frequencies alone: they change at once and need no diagnosis. The setup stays as it is."
    )
    try:
        return pressures(loaded, rope, factor, int(length), law, setting.diagnosis.bands, group)
    except QRoarError as problem:
        refused(problem)
        return None
