"""The tiles of the Overview page: one question each, its answer, a small figure and the way to the page that says more.

A tile whose answer was not measured yet says what would, and starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import streamlit as st

from pages import jobs
from pages.forms.comparison import asked_comparison
from pages.views.job_progress import result_or_progress, start_button, start_once
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.escape import literal
from qroar_core.evaluation.result import Evaluation
from qroar_core.figures import Picture
from qroar_core.figures import overview as figures
from qroar_core.models.loaded import LoadedModel
from qroar_core.remedies.advice import advice
from qroar_core.remedies.layer_memory import cache_bytes
from qroar_core.remedies.result import Comparison
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec

WHERE: dict[str, tuple[str, Callable[[Diagnosis], Picture | None]]] = {
    "band": ("In which bands?", figures.by_band),
    "layer": ("In which layers?", figures.by_layer),
    "position": ("At which positions?", figures.by_position),
}


class Measured(NamedTuple):
    """What was measured under a setup so far."""

    diagnosis: Diagnosis | None
    outcome: SearchOutcome | None
    evaluation: Evaluation | None
    comparison: Comparison | None


def measured(loaded: LoadedModel, setting: Setting) -> Measured:
    """Results of this server, an earlier one, or a run that the visitor opened."""
    outcome = jobs.search.marked(loaded, setting)
    return Measured(
        jobs.diagnose.marked(loaded, setting),
        outcome,
        jobs.evaluate.marked(loaded, setting, outcome),
        jobs.compare.marked(loaded, setting, asked_comparison(setting)[0]),
    )


def lost(loaded: LoadedModel, setting: Setting, found: Measured) -> None:
    """What quantization costs on held-out text."""
    shown = figures.lost(found.evaluation) if found.evaluation is not None else None
    with _tile("What is lost?", "lost", shown):
        if found.evaluation is None:
            st.markdown("Held-out text, read with the reference and with the quantized model, says it.")
            result_or_progress(start_button("Evaluate", jobs.evaluate, loaded, setting, found.outcome))
        _more("evaluate", "Evaluate: every condition")


def where(kind: str, loaded: LoadedModel, setting: Setting, found: Measured) -> None:
    """Where attention's error arises: by one of `WHERE`. The first of them starts the diagnosis."""
    question, draw = WHERE[kind]
    with _tile(question, kind, draw(found.diagnosis) if found.diagnosis is not None else None):
        if found.diagnosis is None and kind == next(iter(WHERE)):
            st.markdown("One diagnosis says where attention's error arises: by band, by layer and by position.")
            start_once("Diagnose", jobs.diagnose, loaded, setting, primary=True)
            result_or_progress(jobs.diagnose.key(loaded, setting))
        elif found.diagnosis is None:
            st.markdown(f"The diagnosis that **{literal(WHERE['band'][0])}** starts says this, too.")
        _more("noise", "Noise: what makes it")


def recovered(loaded: LoadedModel, setting: Setting, found: Measured) -> None:
    """What wins back how much: of all remedies once they are compared, before that of those that were evaluated."""
    shown = None
    if found.comparison is not None:
        shown = figures.recovered(found.comparison)
    elif found.evaluation is not None:
        shown = figures.recovered_by_scales(found.evaluation)
    with _tile("What recovers how much?", "recovered", shown):
        if found.comparison is None:
            if shown is None:
                st.markdown("A comparison measures every remedy that applies to this quantizer on the same text.")
            spec = asked_comparison(setting)[0]
            result_or_progress(start_button("Run the comparison", jobs.compare, loaded, setting, spec))
        _more("remedies", "Remedies: what each needs")


def served(loaded: LoadedModel, setting: Setting, found: Measured) -> None:
    """What to serve, as far as is known, and what its cache takes."""
    with _tile("What to serve?", "serve"):
        report = found.outcome.report if found.outcome is not None else None
        for i, sentence in enumerate(advice(report, found.evaluation, found.comparison)):
            st.markdown(f"{literal(sentence)}." if i else f"**{literal(sentence)}.**")
        if found.outcome is None:
            st.markdown("A search finds scales for W_Q and W_K, and decides on development text whether to keep them.")
            start_once("Start the search", jobs.search, loaded, setting, primary=True)
            result_or_progress(jobs.search.key(loaded, setting))
        _memory(loaded, setting)
        _more("export", "Export: write and serve it")


def _memory(loaded: LoadedModel, setting: Setting) -> None:
    length = setting.search.length or loaded.geometry.original_context
    mine, whole = (cache_bytes(loaded.geometry, quant, length) for quant in (setting.quant, QuantSpec()))
    if mine == whole:
        st.caption(f"K/V cache: {whole:,.0f} bytes a token in 16 bits, not quantized.")
    else:
        st.caption(f"K/V cache: **{mine:,.0f} bytes a token**, {mine / whole:.0%} of its {whole:,.0f} in 16 bits.")


@contextmanager
def _tile(question: str, anchor: str, shown: Picture | None = None) -> Iterator[None]:
    """A box with its question and, once it is known, the answer with its figure; how to read that is its help."""
    with st.container(border=True, height="stretch", key=f"tile {anchor}"):  # theme.TILE
        st.subheader(literal(question), anchor=anchor, help=literal(shown.how_to_read) if shown is not None else None)
        if shown is not None:
            st.markdown(f"**{literal(shown.title)}**")
            st.plotly_chart(shown.figure, key=f"overview {anchor}", alt=shown.alt, config={"displayModeBar": False})
        yield


def _more(page: str, words: str) -> None:
    st.page_link(f"pages/{page}.py", label=literal(words), icon=":material/arrow_forward:")
