"""Which layers a page speaks of, where a model's layers differ in theta or window, or are not rotated."""

from __future__ import annotations

import streamlit as st

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.escape import literal
from qroar_core.models.layer_groups import LayerGroup, layer_groups
from qroar_core.models.loaded import LoadedModel


def layer_group(loaded: LoadedModel) -> LayerGroup:
    """The group picked, with one line that says how the layers differ; nothing is drawn where they don't."""
    groups = layer_groups(loaded.geometry)
    turning = [group for group in groups if group.rotated]
    if len(groups) == 1:
        return turning[0]
    picked = turning[0]
    if len(turning) > 1:
        picked = st.selectbox(
            "Layers",
            turning,
            format_func=lambda group: group.name,
            key=f"layer group {loaded.checksum}",
            persist_state="session",
        )
    st.caption(literal(_difference(groups)))
    return picked


def of_group(found: Diagnosis, loaded: LoadedModel, group: LayerGroup) -> Diagnosis:
    """The diagnosis with the bands of `group`, where it tells groups apart."""
    groups = layer_groups(loaded.geometry)
    if len(groups) > 1 and not found.groups:
        st.caption(f"This older diagnosis measured only these layers: {literal(groups[0].name)}.")
        return found
    return found.of_group(groups.index(group))


def errors_of(found: Diagnosis) -> int | None:
    """The group of layers whose errors are asked for, picked where the diagnosis tells them apart; None: all layers."""
    own = [index for index, group in enumerate(found.groups) if group.bands and group.noise is not None]
    if not own:
        return None
    return st.selectbox(
        "Layers",
        [None, *own],
        key="layers of the errors",
        persist_state="session",
        format_func=lambda i: "all layers" if i is None else found.groups[i].name,
    )


def _difference(groups: tuple[LayerGroup, ...]) -> str:
    still = [group for group in groups if not group.rotated]
    said = f"This model's layers come in {len(groups)} groups: {'; '.join(group.name for group in groups)}."
    if still:
        said += " Layers that are not rotated have no bands."
    if any(group.rotated and group.window for group in groups):
        said += " A window bounds the distances its layers meet."
    return said
