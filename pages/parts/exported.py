"""The parts of the Export page: scales.json, the report, the folder and how it is loaded elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts import recipes, runtimes, session
from pages.parts.paths import confined
from pages.parts.watch import running, watch
from pages.parts.words import rope_words
from pages.parts.work import diagnosing, exporting, reporting
from qroar_core.cli.spelling import evaluate_command, run_command
from qroar_core.errors import QRoarError
from qroar_core.exporting.formats import HF, W4A16
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import DTYPES
from qroar_core.models.own_dtype import written_dtype
from qroar_core.models.own_rope import NONE, own_rope, replaced_rope
from qroar_core.models.scales_file import to_file
from qroar_core.results import Evaluation
from qroar_core.runs.setting import Setting


def scales_file(loaded: LoadedModel, setting: Setting, scales: Scales, outcome: Any) -> None:
    """scales.json and the command that measures it again."""
    st.subheader("scales.json")
    st.caption("The scales alone, with the model, setting and search they belong to. A few kilobytes.")
    content = to_file(loaded, setting.rope, setting.quant, scales, recipes.search_facts(outcome))
    st.download_button("Download scales.json", content.to_json(), "scales.json", "application/json",
                       on_click="ignore", type="primary", icon=":material/download:")  # fmt: skip
    command, left = evaluate_command(loaded, setting, "scales.json")
    st.caption(f"Measure it again from the command line{_without(left)}, or write a checkpoint from it with `export`.")
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
        st.info(f"The report needs {' and '.join(what for what, _ in absent)} of this setting first.")
        for what, page in absent:
            st.page_link(f"pages/{page}.py", label=f"Go and make {what}", icon=":material/arrow_back:")
        return
    st.caption("Every figure and table, the settings and versions, in one file that opens without a network. It is "
               "built when you click; a continuation of a held-out window goes in where there is one.")  # fmt: skip
    st.download_button(
        "Download report.html", partial(reporting.build, loaded, setting, diagnosis, outcome, proof), "report.html",
        "text/html", on_click="ignore", icon=":material/lab_profile:",
    )  # fmt: skip
    command, left = run_command(loaded, setting)
    st.caption(f"The command that repeats all of it{_without(left)}")
    st.code(command, language="bash", wrap_lines=True)


def checkpoint(loaded: LoadedModel, setting: Setting, scales: Scales) -> None:
    """The whole checkpoint into a new folder."""
    st.subheader("Checkpoint folder")
    st.caption("Scales in W_Q and W_K, the interpolation in the config, the tokenizer, and a file with every hash.")
    key = st.session_state.get("export key", ())
    known = exporting.formats(loaded)
    format = st.selectbox("Format", list(known), format_func=known.__getitem__, key="export format")
    if format in W4A16:
        st.caption("Scales go in first, then the linear layers are rounded. A row of weights and its step grow by the "
                   "same scale, Q(g w) = g Q(w), so symmetric scales change no 4-bit code: they act on the K cache "
                   "that this model is served with.")  # fmt: skip
    asked = session.choice().dtype
    if format in HF:
        st.caption(f"Weights are written as {written_dtype(loaded, DTYPES.get(asked))[1]}.")
    if replaced := replaced_rope(loaded, setting.rope):
        st.caption(f"{rope_words(setting.rope)} replaces the checkpoint's own {replaced}.")
    elif (own := own_rope(loaded)) != NONE:
        st.caption(f"The checkpoint's own interpolation is kept: {own}.")
    with st.form("checkpoint"):
        typed = st.text_input("New folder", recipes.default_folder(loaded), key="folder")
        if st.form_submit_button("Write the checkpoint", icon=":material/save:", disabled=running(key)):
            try:
                st.session_state["export key"] = exporting.start(
                    loaded, setting, scales, confined(typed), format, asked
                )
                st.rerun()
            except QRoarError as problem:
                st.error(str(problem))
    written = watch(key)
    if written is not None:
        who = "Plain transformers loads it; nothing" if format in HF else "Nothing"
        st.success(f"Written to `{written}`. {who} of this software is needed.")
    _loading(written or Path(typed), loaded, setting, format)


def _loading(folder: Path, loaded: LoadedModel, setting: Setting, format: str) -> None:
    st.markdown("**How to load it**")
    known = runtimes.recipes(folder, loaded, setting, format)
    for tab, recipe in zip(st.tabs(list(known)), known.values(), strict=True):
        tab.code(recipe.code, language=recipe.language, wrap_lines=True)
        tab.caption("  \n".join(recipe.notes))


def _without(left: list[str]) -> str:
    return f" (no option sets {', '.join(left)}: the command takes the default)" if left else ""
