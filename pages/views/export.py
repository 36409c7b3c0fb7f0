"""The parts of the Export page: scales.json, the report, the folder and how it is loaded elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypedDict

import streamlit as st

from pages import jobs
from pages.forms.export import export_menu
from pages.jobs import export_job
from pages.jobs.export_job import Written
from pages.state import session
from pages.state.clicks import pressed
from pages.state.foreign_runs import source_of
from pages.state.paths import confined
from pages.views import export_choice
from pages.views.boxes import refused
from pages.views.job_progress import result_or_progress, running
from pages.views.labels import rope_words
from pages.views.render import heading
from pages.views.report import build_report
from qroar_core.cli.reproduce import evaluate_command, run_command, spelled
from qroar_core.errors import QRoarError
from qroar_core.escape import code, literal
from qroar_core.evaluation.result import Evaluation
from qroar_core.exporters.cache_scales import reads_scales
from qroar_core.exporters.card import tied_place
from qroar_core.exporters.folder import NOTE
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Served
from qroar_core.exporters.readers import limits_of, recipes
from qroar_core.exporters.served import served_setting
from qroar_core.exporters.writers import main_file, offered
from qroar_core.interpolations.rope_file import rope_text
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import DTYPES, written_dtype
from qroar_core.models.own_rope import NONE, own_rope, replaced_rope
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales

LAST_EXPORT = "last export"  # session: a LastClick


def scales_file(loaded: LoadedModel, setting: Setting, scales: Scales, outcome: SearchOutcome | None) -> None:
    """scales.json and the command that measures it again."""
    heading("scales.json", "scales-file")
    st.caption("The scales alone, with the model, setup and search they belong to. A few kilobytes.")
    content = to_file(loaded, setting.rope, setting.quant, scales, outcome.report.facts() if outcome else {})
    st.download_button(
        "Download scales.json",
        content.to_json(),
        "scales.json",
        "application/json",
        on_click="ignore",
        type="primary",
        icon=":material/download:",
    )
    if not spelled(setting.rope):
        st.download_button(
            "Download rope.json",
            rope_text(setting.rope),
            "rope.json",
            "application/json",
            on_click="ignore",
            help="The interpolation, whose numbers no option can express: commands take it as --rope rope.json.",
        )
    command, left = evaluate_command(loaded, setting, "scales.json")
    unsaid = literal(_without(left))
    st.caption(f"Measure it again from the command line{unsaid}, or write a checkpoint from it with `export`.")
    st.code(command, language="bash", wrap_lines=True)


class LastClick(TypedDict, total=False):
    """What came of the last click on "Write the checkpoint", in a dict of its own.

    A run may be ended wherever it writes to the session: behind the start of an export and before its key is kept, the
    next run would then be refused the folder that this very export writes.
    """

    key: JobKey[Written]
    refused: tuple[str, str]  # what was typed, and why


def report(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None, evaluation: Evaluation | None) -> None:
    """report.html, once there is everything to report."""
    heading("report.html", "report-file")
    diagnosis = jobs.diagnose.result(loaded, setting)
    missing = [
        ("a diagnosis", "pressure", diagnosis),
        ("a search", "tune", outcome),
        ("an evaluation", "evaluate", evaluation),
    ]
    if diagnosis is None or outcome is None or evaluation is None:
        absent = [(what, page) for what, page, there in missing if there is None]
        st.info(f"The report needs {literal(' and '.join(what for what, _ in absent))} of this setup first.")
        for what, page in absent:
            st.page_link(f"pages/{page}.py", label=f"Go and make {literal(what)}", icon=":material/arrow_back:")
        return
    sources = {entry.path for key in _made_by(loaded, setting, outcome) if (entry := source_of(key)) is not None}
    if sources:
        folders = literal(", ".join(map(str, sources)))
        st.info(
            f"Some of these results come from {folders}, which has a report of its own. "
            "Measure them here to get one of this dashboard."
        )
        return
    st.caption(
        "Every figure and table, the setup and versions, in one file that opens without a network. It is "
        "built when you click; a continuation of a held-out window goes in where there is one."
    )
    st.download_button(
        "Download report.html",
        partial(build_report, loaded, setting, diagnosis, outcome, evaluation),
        "report.html",
        "text/html",
        on_click="ignore",
        icon=":material/lab_profile:",
    )
    command, left = run_command(loaded, setting)
    st.caption(f"The command that repeats all of it{literal(_without(left))}")
    st.code(command, language="bash", wrap_lines=True)


def _made_by(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None) -> tuple[JobKey, ...]:
    """The keys of the jobs that a report is made of."""
    return (
        jobs.diagnose.key(loaded, setting),
        jobs.search.key(loaded, setting),
        jobs.evaluate.key(loaded, setting, outcome),
    )


def checkpoint(loaded: LoadedModel, setting: Setting, scales: Scales) -> None:
    """The whole checkpoint into a new folder."""
    heading("Checkpoint folder", "checkpoint-folder")
    st.caption("Scales in W_Q and W_K, the interpolation in the config, the tokenizer, and a file with every hash.")
    known = offered(loaded)
    format = export_menu("Format", list(known), "format", known.__getitem__)
    if FORMATS[format].takes_group_size:
        st.caption(
            "Scales go in first, then the linear layers are rounded. A row of weights and its step grow by the "
            "same scale, Q(g w) = g Q(w), so symmetric scales change no 4-bit code: they act on the K cache "
            "that this model is served with."
        )
    asked = session.choice().dtype
    if FORMATS[format].takes_dtype:
        st.caption(f"Weights are written as {literal(written_dtype(loaded, DTYPES.get(asked))[1])}.")
    if reads_scales(setting.quant, format):
        st.caption(
            "This setup's cache reads a k_scale and a v_scale a layer from the checkpoint: they are measured on "
            "calibration text, with the interpolation and the scales inside, and written too."
        )
    if replaced := replaced_rope(loaded, setting.rope):
        st.caption(f"{literal(rope_words(setting.rope))} replaces the checkpoint's own {literal(replaced)}.")
    elif (own := own_rope(loaded)) != NONE:
        st.caption(f"The checkpoint's own interpolation is kept: {literal(own)}.")
    if setting.rope.tie:
        place = tied_place(format).replace("`", "")  # Markdown of the model card
        st.caption(
            f"Frequencies of tied pairs go into {literal(place)}; an attention factor other than 1 is "
            "multiplied into W_Q and W_K."
        )
    with st.form("checkpoint"):
        typed = st.text_input("New folder", export_choice.default_folder(loaded), key="folder")
        said = _last_click()
        busy = running(said.get("key", ()))

        def start() -> bool:
            last, _ = said.get("key"), said.pop("refused", None)  # not about this click
            try:
                folder = confined(typed)
                same = last == export_job.key(loaded, setting, scales, folder, format, asked)
                if last is not None and same and (running(last) or _lies(last, loaded, format)):
                    return True  # a double click: what the first one wrote is no reason to refuse
                said.pop("key", None)
                said["key"] = export_job.start(loaded, setting, scales, folder, format, asked)
            except QRoarError as problem:
                said.pop("key", None)
                said["refused"] = (typed, str(problem))
            return "refused" not in said

        if click := pressed("Write the checkpoint", "", st.form_submit_button, icon=":material/save:", disabled=busy):
            click.over(redraw=start())
        asked_for, why = said.get("refused", (None, ""))
        if asked_for == typed:
            refused(why)
    folder = _written(loaded, setting, scales, format, asked)
    try:
        served = _served(folder, loaded, setting, format, asked)
    except QRoarError:  # a family that cannot say this interpolation: a click on the button says so
        return
    _loading(folder, served)
    _limits(served)


def _last_click() -> LastClick:
    said: LastClick = st.session_state.setdefault(LAST_EXPORT, {})
    return said


def _written(loaded: LoadedModel, setting: Setting, scales: Scales, format: str, dtype: str) -> Path | None:
    """The folder that holds this model under this setting with these scales in this format, if it is still there.

    Another choice above is another export: what the last one wrote is then not shown, only its progress is.
    """
    last, whose = _last_click().get("key"), ""
    if last is None and "refused" not in _last_click():  # a reload begins another session, which knows of no click
        last = export_job.elsewhere(export_job.key(loaded, setting, scales, Path(), format, dtype))
        whose = ", started by another visitor, or before a reload"
    if last is None:
        return None
    folder = export_job.folder_of(last)
    mine = last == export_job.key(loaded, setting, scales, folder, format, dtype)
    if not (mine or running(last)) or result_or_progress(last) is None or not mine:
        return None
    if not _lies(last, loaded, format):
        if not whose:
            there = (folder / NOTE).is_file()
            other = ": another export, or a changed one, lies there now. Choose another folder to write this one again"
            st.warning(f"What was written to {code(folder)} is not there any more{literal(other * there)}.")
        return None
    rest = "Plain transformers loads it; nothing" if FORMATS[format].own_weights else "Nothing"
    if reads_scales(setting.quant, format):
        rest = "transformers loads it with the library compressed-tensors; nothing"
    st.success(f"Written to {code(folder)}{literal(whose)}. {rest} of this software is needed.")
    return folder


def _lies(key: JobKey[Written], loaded: LoadedModel, format: str) -> bool:
    """Does its folder hold what this export wrote, by its note, and the file without which nothing loads it?"""
    done = session.manager().result(key)
    return done is not None and done.stands and main_file(done.folder, loaded, format).is_file()


def _served(folder: Path | None, loaded: LoadedModel, setting: Setting, format: str, dtype: str) -> Served:
    """What was written, or would be.

    Raises:
        BadSpec: an interpolation that this family's config cannot say.
    """
    path = main_file(folder or Path(), loaded, format) if FORMATS[format].whole_file else folder or Path()
    length = setting.search.length or 0
    scaled = reads_scales(setting.quant, format)
    return served_setting(loaded, setting.rope, setting.quant, length, path, format, DTYPES.get(dtype), scaled)


def _loading(folder: Path | None, served: Served) -> None:
    """How each runtime serves what is in `folder`; None: nothing is there yet, so there is no command to give."""
    heading("How to serve it", "loading", "box")
    known = recipes(served)
    for tab, recipe in zip(st.tabs([literal(name) for name in known]), known.values(), strict=True):
        if folder is None:
            tab.caption("Nothing is written yet under this choice. Once it is, its command appears here.")
        else:
            tab.code(recipe.code, language=recipe.language, wrap_lines=True)
        tab.caption("  \n".join(literal(note) for note in recipe.notes))


def _limits(served: Served) -> None:
    """What runtimes do otherwise with this export, as its card will say."""
    if known := limits_of(served.export):
        st.caption("  \n".join(literal(line) for line in ("What runtimes do otherwise:", *known)))


def _without(left: list[str]) -> str:
    return f" (no option sets {', '.join(left)}: the command takes the default)" if left else ""
