"""What the loaded model is: the facts that decide as metrics, the rest as a table."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.forms.context_limit import Room
from pages.views.boxes import finding
from pages.views.labels import short_name, size_words
from pages.views.status_bar import VERDICTS, verdict_for
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import free_bytes
from qroar_core.models.own_dtype import own_words
from qroar_core.models.own_rope import native_from, own_rope
from qroar_core.setting import Setting

_HYBRID = "Those with attention; the model's other layers have no q and k to measure or scale."


def model_metrics(loaded: LoadedModel, room: Room) -> None:
    """Six numbers in a row, the rest that people ask for in a line."""
    geo = loaded.geometry
    facts = {
        "Parameters": (size_words(geo.parameters), ""),
        "Layers": (f"{geo.n_layers}", _HYBRID if geo.decoder_layers else ""),
        "Heads / KV heads": (f"{geo.n_heads} / {geo.n_kv_heads}", ""),
        "head_dim / rotary": (f"{geo.head_dim} / {geo.rotary_dim}", f"{geo.n_pairs} RoPE pairs a head."),
        "Native window": (f"{geo.original_context:,}", f"Tokens, from {native_from(loaded)} of its config."),
        "Tokens that fit": (size_words(room.tokens), f"The longest context here. {room.words}."),
    }
    with st.container(horizontal=True, gap="xsmall", key="model metrics"):
        for label, (value, explained) in facts.items():
            st.metric(literal(label), literal(value), help=literal(explained) or None, border=True, width="content")
    kind = str(loaded.dtype).removeprefix("torch.")
    st.caption(
        f"{literal(geo.family)}, {literal(geo.pairing)} pairing, theta {geo.theta:,.0f}, own interpolation: "
        f"{literal(own_rope(loaded))}; {literal(kind)} on {literal(loaded.device)}, {literal(_mebibytes(loaded))}; "
        f"checksum {literal(loaded.checksum)}."
    )


def model_table(loaded: LoadedModel) -> None:
    """Everything else, with the whole name."""
    geo = loaded.geometry
    facts = {
        "name": loaded.name,
        "family": geo.family,
        "theta": f"{geo.theta:,.0f}",
        "own interpolation": own_rope(loaded),
        "max_position_embeddings": f"{loaded.model.config.max_position_embeddings:,}",
        "pairing": f"{geo.pairing}, {geo.n_pairs} pairs a head",
        "size": f"{geo.parameters:,} parameters, {_mebibytes(loaded)}",
        "hidden size": f"{geo.hidden_size:,}",
        "vocabulary": f"{geo.vocab_size:,}",
        "device": f"{loaded.device}, {free_bytes(loaded.device) / 2**30:.1f} GiB free",
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "fingerprint of the weights": loaded.fingerprint,
        "checksum of weights, config and tokenizer": loaded.checksum,
    }
    if own := own_words(loaded):
        facts["dtype of the checkpoint"] = own
    if loaded.source != loaded.name:
        facts["source"] = loaded.source
    if loaded.note:
        facts["note"] = loaded.note
    st.dataframe(
        pd.DataFrame({"what": facts.keys(), "value": facts.values()}),
        hide_index=True,
        height="content",
        key="model card",
        column_config={"what": st.column_config.TextColumn(width="small")},
        alt=f"What {short_name(loaded.name)} is",
    )


def _mebibytes(loaded: LoadedModel) -> str:
    width = next(loaded.model.parameters()).element_size()
    return f"{loaded.geometry.parameters * width / 2**20:,.0f} MiB"


def verdict_box(loaded: LoadedModel, setting: Setting) -> None:
    """Can rescaling act under this setting, and why; said before any search."""
    said = verdict_for(loaded, setting)
    why = said.reason.removeprefix("Scales can act: ")
    head, _, icon = VERDICTS[said.acts]
    finding(said.acts == "yes", f"{head}:", f" {literal(why)}", icon)
