"""Picking a model: the demo in one click, or any other; a load that fails gives the model before back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from pages.parts.boxes import refused
from pages.parts.choice import Choice
from pages.parts.session import absent_words, choice, choose, load_key, manager
from pages.parts.words import short_name
from pages.parts.work import loading
from qroar_core.bundled import HOME
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.models.devices import choose_device, free_memory
from qroar_core.models.loading import DTYPES

SMOLLM2, FOLDER, GGUF, HUB = "SmolLM2", "Folder", ".gguf", "Hub id"
TYPED = {
    FOLDER: ("Folder with config.json and safetensors", "~/models/my-model"),
    GGUF: ("Path of the GGUF file", "~/models/my-model.Q8_0.gguf"),
    HUB: ("Name on the Hugging Face hub", "org/name, or org/name:Q4_K_M for a GGUF"),
}
EXPLAINED = {
    GGUF: "Any GGUF file, also one without a suffix, as Ollama keeps them.",
    HUB: "Type `org/name` for a folder of safetensors, `org/name:Q4_K_M` or `org/name/file.gguf` for a GGUF, each with "
    "`@revision` after the name for another branch, tag or commit; what is not in the cache is downloaded.",
}
WELCOME = (
    ":material/search: **See** which frequency bands suffer when RoPE is stretched and weights or cache are quantized.",
    ":material/tune: **Repair** a part of it with one scale per band in W_Q and W_K: no retraining, no run-time cost.",
    ":material/verified: **Verify** the gain on held-out text, and export; or read that there is nothing to gain.",
)
LEARN = "pages/learn.py"
BEFORE, SAID = "choice before the load", "why the last load failed"


def demo_button(now: Choice, first: bool = False) -> None:
    """One click to a loaded model."""
    if st.button("Demo model", type="primary" if first else "secondary", icon=":material/play_arrow:",
                 key="demo model", help="3.5 M parameters, part of this software"):  # fmt: skip
        _load(replace(_without_model(now), model="demo"))


def first_row(now: Choice, empty: bool) -> None:
    """The demo button beside what it does or, where a model is loaded, beside the way to another."""
    with st.container(horizontal=True, vertical_alignment="center", key="first row"):
        demo_button(now, first=empty)
        if empty:
            st.caption("In one click: a small Llama (3.5 M parameters, trained to 256 tokens) that comes with this "
                       "software, under 4x YaRN with an int4 K cache. Loss, repair and check on held-out text take "
                       "about a minute on a laptop.")  # fmt: skip
        else:
            with st.popover("Another model"):
                other_model(now)


def welcome(now: Choice) -> None:
    """The first screen: what this is for, in three lines, and the way in for a model of one's own."""
    st.markdown("\n\n".join(WELCOME))
    if Path(LEARN).is_file() or (HOME / LEARN).is_file():
        st.page_link(LEARN, label="No model needed: learn how it works, in six steps", icon=":material/school:")
    with st.container(border=True):
        st.subheader("Your own model")
        other_model(now)


def other_model(now: Choice) -> None:
    """SmolLM2, a folder, a GGUF file or a name on the hub, with device and dtype."""
    kind = st.segmented_control("Where it is", [SMOLLM2, *TYPED], default=SMOLLM2, required=True, key="kind")
    typed = ""
    if kind in TYPED:
        label, example = TYPED[kind]
        typed = st.text_input(literal(label), key="typed", placeholder=example).strip()
        if kind in EXPLAINED:
            st.caption(EXPLAINED[kind])
    else:
        st.caption("SmolLM2-135M-Instruct: 135 M parameters, fetched once from PyPI, 93 MB.")
    one, two = st.columns(2)
    free = free_memory()
    words = {name: f"{name}, {size / 2**30:.1f} GiB free" for name, size in free.items()}
    words["auto"] = f"auto: {choose_device('auto')}"
    device = one.selectbox("Device", ["auto", *free], format_func=words.get, key="device")
    dtype = two.selectbox("dtype", ["auto", *DTYPES], key="dtype")
    if st.button("Load", icon=":material/upload:"):
        if kind in TYPED and not typed:
            st.error("Nothing typed: give a folder, a GGUF file or a name on the hub.", icon=":material/error:")
            return
        local = kind in (FOLDER, GGUF) and not typed.startswith((".", "/", "~"))
        model = "smollm2" if kind == SMOLLM2 else f"./{typed}" if local else typed
        _load(replace(_without_model(now), model=model, device=device, dtype=dtype))


def reload_button(now: Choice) -> None:
    """For a model that the address names and this process has not loaded."""
    if now.model and manager().snapshot(load_key(now)) is None:
        st.info(literal(absent_words(now)))
        if st.button(f"Load {literal(short_name(now.model))}", icon=":material/upload:"):
            _load(now)


def give_back_on_failure(now: Choice) -> None:
    """If the chosen load failed while the model before is still in memory: choose that again, and say why."""
    job, before = manager().snapshot(load_key(now)), st.session_state.get(BEFORE)
    over = job is not None and job.state in ("failed", "cancelled")
    if over and before is not None and manager().result(load_key(before)) is not None:
        st.session_state[SAID] = job.error or f"{job.label}: cancelled"
        choose(before)
        st.rerun()
    if SAID in st.session_state:
        refused(st.session_state[SAID], f". {literal(short_name(now.model))} is still loaded.")


def _without_model(now: Choice) -> Choice:
    """What of a choice outlives its model: the setting, except what is counted in this model's pairs and tokens."""
    counted = now.rope is not None and (now.rope.long_factor or now.rope.original_context)
    rope = None if counted else now.rope
    return replace(now, device="auto", dtype="auto", rope=rope, length=None, evaluation=None, retrieval=None)


def _load(picked: Choice) -> None:
    st.session_state.pop(SAID, None)
    now = choice()
    try:
        loading.start(picked)
    except QRoarError as problem:
        refused(problem)
        return
    if manager().result(load_key(now)) is not None:
        st.session_state[BEFORE] = now
    choose(picked)
    st.rerun()
