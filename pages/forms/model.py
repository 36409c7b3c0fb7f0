"""Picking a model: the demo in one click, or any other; a load that fails gives the model before back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from pages.jobs import load_job
from pages.state.choice import Choice
from pages.state.clicks import pressed
from pages.state.headings import HEADINGS
from pages.state.session import choice, choose, load_key, manager
from pages.views.boxes import refused, unless_refused
from pages.views.glossary import terms_button
from pages.views.labels import short_name
from pages.views.no_model import absent_words
from qroar_core.bundled import HOME
from qroar_core.escape import literal
from qroar_core.models.devices import choose_device, free_memory
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import DTYPES

SMOLLM2, FOLDER, GGUF, HUB = "SmolLM2", "Folder", ".gguf", "Hub id"
TYPED = {
    FOLDER: ("Folder with config.json and safetensors", "~/models/my-model"),
    GGUF: ("Path of the GGUF file", "~/models/my-model.Q8_0.gguf"),
    HUB: ("Name on the Hugging Face hub", "org/name, or org/name:Q4_K_M for a GGUF"),
}
EXPLAINED = {
    GGUF: "Any GGUF file, also one without a suffix, as Ollama keeps them.",
    HUB: "Type `org/name` for a folder of safetensors, `org/name:Q4_K_M` or `org/name/file.gguf` for a GGUF, each also "
    "with `@revision` at its end for another branch, tag or commit; what is not in the cache is downloaded.",
}
WELCOME = (
    ":material/search: **See** which frequency bands suffer when RoPE is stretched and weights or cache are quantized.",
    ":material/tune: **Repair** a part of it with one scale per band in W_Q and W_K: no retraining, no run-time cost.",
    ":material/verified: **Verify** the gain on held-out text, and export; or read that there is nothing to gain.",
)
LEARN = "pages/learn.py"
CHOICE_BEFORE_LOAD, LOAD_FAILURE = "choice before the load", "why the last load failed"
LINKED = "the model of a link that was loaded here"  # session: its load key


def demo_button(now: Choice) -> None:
    """One click to a loaded model. Of one type always: another type is another element, and the focus would be gone."""
    if click := pressed(
        "Demo model",
        "demo model",
        type="primary",
        icon=":material/play_arrow:",
        help="3.5 M parameters, part of this software",
    ):
        click.over(redraw=_load(replace(_without_model(now), model="demo")))


def model_title(loaded: LoadedModel | None) -> None:
    """The model's name, or what this software answers."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(HEADINGS["Start"] if loaded is None else literal(short_name(loaded.name, 30)))
        terms_button("Start")


def first_row(now: Choice, empty: bool) -> None:
    """The demo button beside what it does or, where a model is loaded, beside the way to another."""
    with st.container(horizontal=True, vertical_alignment="center", key="first row"):
        demo_button(now)
        if empty:
            st.caption(
                "In one click: a small Llama (3.5 M parameters, trained to 256 tokens) that comes with this "
                "software, under YaRN ×4 with an int4 K cache. Loss, repair and check on held-out text take "
                "about a minute on a laptop."
            )
        else:
            with st.popover("Another model"):
                other_model(now)


def welcome(now: Choice) -> None:
    """The first screen: what this is for, in three lines, and the way in for a model of one's own."""
    st.markdown("\n\n".join(WELCOME))
    if Path(LEARN).is_file() or (HOME / LEARN).is_file():
        st.page_link(LEARN, label="No model needed: learn how it works, in eight steps", icon=":material/school:")
    with st.container(border=True):
        st.header("Your own model")
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
    _why_it_failed(now)  # here too: the popover that is still open covers the line on the page
    one, two = st.columns(2)
    free = free_memory()
    words = {name: f"{name}, {size / 2**30:.1f} GiB free" for name, size in free.items()}
    words["auto"] = f"auto: {choose_device('auto')}"
    device = one.selectbox("Device", ["auto", *free], format_func=words.__getitem__, key="device")
    dtype = two.selectbox("dtype", ["auto", *DTYPES], key="dtype")

    def start() -> bool:
        if kind in TYPED and not typed:
            st.error("Nothing typed: give a folder, a GGUF file or a name on the hub.", icon=":material/error:")
            return False
        local = kind in (FOLDER, GGUF) and not typed.startswith((".", "/", "~"))
        model = "smollm2" if kind == SMOLLM2 else f"./{typed}" if local else typed
        return _load(replace(_without_model(now), model=model, device=device, dtype=dtype))

    if click := pressed("Load", icon=":material/upload:"):
        click.over(redraw=start())


def reload_button(now: Choice) -> None:
    """For a model that the address names and this process has not loaded.

    Once pressed the button stays in its place, so that the keyboard's focus stays on it; again it loads nothing.
    """
    key, name = load_key(now), literal(short_name(now.model))
    job = manager().snapshot(key)
    with st.container(horizontal=True, vertical_alignment="center", key="chosen model"):  # always: a place of its own
        if now.model and (job is None or st.session_state.get(LINKED) == key):
            label = f"{name} is loaded" if job is not None and job.state == "done" else f"Load {name}"
            if click := pressed(label, "load the chosen", icon=":material/upload:"):
                click.over(redraw=_load_linked(now))
        if now.model and job is None:
            st.info(literal(absent_words(now)))


def _load_linked(now: Choice) -> bool:
    st.session_state[LINKED] = load_key(now)
    return _load(now)


def give_back_on_failure(now: Choice) -> None:
    """If the chosen load failed while the model before is still in memory: choose that again, and say why."""
    job, before = manager().snapshot(load_key(now)), st.session_state.get(CHOICE_BEFORE_LOAD)
    over = job if job is not None and job.state in ("failed", "cancelled") else None
    if over is not None and before is not None and manager().result(load_key(before)) is not None:
        st.session_state[LOAD_FAILURE] = over.error or f"{over.label}: cancelled"
        choose(before)
        st.rerun()
    _why_it_failed(now)


def _why_it_failed(now: Choice) -> None:
    if LOAD_FAILURE in st.session_state and manager().result(load_key(now)) is not None:
        refused(st.session_state[LOAD_FAILURE], f". {literal(short_name(now.model))} is still loaded.")


def _without_model(now: Choice) -> Choice:
    """What of a choice outlives its model: the setting, except what is counted in this model's pairs and tokens."""
    counted = now.rope is not None and (now.rope.long_factor or now.rope.original_context)
    rope = None if counted else now.rope
    return replace(now, device="auto", dtype="auto", rope=rope, length=None, evaluation=None, retrieval=None)


def _load(picked: Choice) -> bool:
    """Choose it and queue loading it; False where it was refused, which is said.

    Queued last: a load that has failed by the time a run ended in between would be tried again.
    """
    st.session_state.pop(LOAD_FAILURE, None)
    now = choice()
    if not unless_refused(lambda: load_job.require_loadable(picked)):
        return False
    if manager().result(load_key(now)) is not None:
        st.session_state[CHOICE_BEFORE_LOAD] = now
    choose(picked)
    load_job.start(picked)
    return True
