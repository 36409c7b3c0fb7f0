"""The parts of the Export page: scales.json, the report, the folder and how it is loaded elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts import recipes, runtimes, session
from pages.parts.boxes import refused
from pages.parts.elsewhere import source_of
from pages.parts.paths import confined
from pages.parts.watch import running, watch
from pages.parts.words import rope_words
from pages.parts.work import diagnosing, evaluating, exporting, reporting, searching
from qroar_core.cli.spelling import evaluate_command, run_command
from qroar_core.errors import QRoarError
from qroar_core.escape import code, literal
from qroar_core.exporting.formats import HF, W4A16
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import DTYPES
from qroar_core.models.own_dtype import written_dtype
from qroar_core.models.own_rope import NONE, own_rope, replaced_rope
from qroar_core.models.scales_file import to_file
from qroar_core.results import Evaluation
from qroar_core.runs.setting import Setting

LAST = "key of the last export"  # session: of exporting.start
REFUSED = "last export that was refused"  # session: (what was typed, why)


def scales_file(loaded: LoadedModel, setting: Setting, scales: Scales, outcome: Any) -> None:
    """scales.json and the command that measures it again."""
    st.subheader("scales.json")
    st.caption("The scales alone, with the model, setting and search they belong to. A few kilobytes.")
    content = to_file(loaded, setting.rope, setting.quant, scales, recipes.search_facts(outcome))
    st.download_button("Download scales.json", content.to_json(), "scales.json", "application/json",
                       on_click="ignore", type="primary", icon=":material/download:")  # fmt: skip
    command, left = evaluate_command(loaded, setting, "scales.json")
    unsaid = literal(_without(left))
    st.caption(f"Measure it again from the command line{unsaid}, or write a checkpoint from it with `export`.")
    st.code(command, language="bash", wrap_lines=True)


def report(loaded: LoadedModel, setting: Setting, outcome: Any, proof: Evaluation | None) -> None:
    """report.html, once there is everything to report."""
    st.subheader("report.html")
    diagnosis = diagnosing.result(loaded, setting)
    missing = [
        ("a diagnosis", "pressure", diagnosis),
        ("a search", "tune", outcome),
        ("an evaluation", "evaluate", proof),
    ]
    absent = [(what, page) for what, page, there in missing if there is None]
    if absent:
        st.info(f"The report needs {literal(' and '.join(what for what, _ in absent))} of this setting first.")
        for what, page in absent:
            st.page_link(f"pages/{page}.py", label=f"Go and make {literal(what)}", icon=":material/arrow_back:")
        return
    sources = {entry.path for key in _made_by(loaded, setting, outcome) if (entry := source_of(key)) is not None}
    if sources:
        folders = literal(", ".join(map(str, sources)))
        st.info(f"Some of these results come from {folders}, which has a report of its own. "
                "Measure them here to get one of this dashboard.")  # fmt: skip
        return
    st.caption("Every figure and table, the settings and versions, in one file that opens without a network. It is "
               "built when you click; a continuation of a held-out window goes in where there is one.")  # fmt: skip
    st.download_button(
        "Download report.html", partial(reporting.build, loaded, setting, diagnosis, outcome, proof), "report.html",
        "text/html", on_click="ignore", icon=":material/lab_profile:",
    )  # fmt: skip
    command, left = run_command(loaded, setting)
    st.caption(f"The command that repeats all of it{literal(_without(left))}")
    st.code(command, language="bash", wrap_lines=True)


def _made_by(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple[tuple, ...]:
    """The keys of the jobs that a report is made of."""
    return (diagnosing.key(loaded, setting), searching.key(loaded, setting), evaluating.key(loaded, setting, outcome))


def checkpoint(loaded: LoadedModel, setting: Setting, scales: Scales) -> None:
    """The whole checkpoint into a new folder."""
    st.subheader("Checkpoint folder")
    st.caption("Scales in W_Q and W_K, the interpolation in the config, the tokenizer, and a file with every hash.")
    known = exporting.formats(loaded)
    format = st.selectbox("Format", list(known), format_func=known.__getitem__, key="export format")
    if format in W4A16:
        st.caption("Scales go in first, then the linear layers are rounded. A row of weights and its step grow by the "
                   "same scale, Q(g w) = g Q(w), so symmetric scales change no 4-bit code: they act on the K cache "
                   "that this model is served with.")  # fmt: skip
    asked = session.choice().dtype
    if format in HF:
        st.caption(f"Weights are written as {literal(written_dtype(loaded, DTYPES.get(asked))[1])}.")
    if replaced := replaced_rope(loaded, setting.rope):
        st.caption(f"{literal(rope_words(setting.rope))} replaces the checkpoint's own {literal(replaced)}.")
    elif (own := own_rope(loaded)) != NONE:
        st.caption(f"The checkpoint's own interpolation is kept: {literal(own)}.")
    with st.form("checkpoint"):
        typed = st.text_input("New folder", recipes.default_folder(loaded), key="folder")
        busy = running(st.session_state.get(LAST, ()))
        if st.form_submit_button("Write the checkpoint", icon=":material/save:", disabled=busy):
            for said in (LAST, REFUSED):  # what was said before is not about this click
                st.session_state.pop(said, None)
            try:
                st.session_state[LAST] = exporting.start(loaded, setting, scales, confined(typed), format, asked)
                st.rerun()
            except QRoarError as problem:
                st.session_state[REFUSED] = (typed, str(problem))
        asked_for, why = st.session_state.get(REFUSED, (None, ""))
        if asked_for == typed:
            refused(why)
    _loading(_written(loaded, setting, scales, format, asked), loaded, setting, format)


def _written(loaded: LoadedModel, setting: Setting, scales: Scales, format: str, dtype: str) -> Path | None:
    """The folder that holds this model under this setting with these scales in this format, if it is still there.

    Another choice above is another export: what the last one wrote is then not shown, only its progress is.
    """
    last = st.session_state.get(LAST)
    if last is None:
        return None
    folder = exporting.folder_of(last)
    mine = last == exporting.key(loaded, setting, scales, folder, format, dtype)
    if not (mine or running(last)) or watch(last) is None or not mine:
        return None
    if not runtimes.main_file(folder, loaded, format).is_file():
        st.warning(f"What was written to {code(folder)} is not there any more.")
        return None
    rest = "Plain transformers loads it; nothing" if format in HF else "Nothing"
    st.success(f"Written to {code(folder)}. {rest} of this software is needed.")
    return folder


def _loading(folder: Path | None, loaded: LoadedModel, setting: Setting, format: str) -> None:
    """How each runtime loads what is in `folder`; None: nothing is there yet, so there is no command to give."""
    st.markdown("**How to load it**")
    known = runtimes.recipes(folder or Path(), loaded, setting, format)
    for tab, recipe in zip(st.tabs([literal(name) for name in known]), known.values(), strict=True):
        if folder is None:
            tab.caption("Nothing is written yet under this choice. Once it is, the command for it stands here.")
        else:
            tab.code(recipe.code, language=recipe.language, wrap_lines=True)
        tab.caption("  \n".join(literal(note) for note in recipe.notes))


def _without(left: list[str]) -> str:
    return f" (no option sets {', '.join(left)}: the command takes the default)" if left else ""
