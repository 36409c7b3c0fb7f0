"""Watch, cancel and resume the search; then its verdict."""

from __future__ import annotations

import streamlit as st

from pages import jobs
from pages.state.clicks import pressed
from pages.state.session import manager
from pages.views.boxes import finding
from pages.views.job_progress import result_or_progress, running
from pages.views.render import picture
from qroar_core.escape import literal
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import loses_to_tie, under_a_tie
from qroar_core.models.loaded import LoadedModel
from qroar_core.number_of import number_of
from qroar_core.scale_search import figure as search_trace
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.result import SearchReport
from qroar_core.setting import Setting
from qroar_core.specs.labels import capital


def cancelled_search(loaded: LoadedModel, setting: Setting) -> SearchOutcome | None:
    """The best so far of a search that was cancelled, and the ways to go on with it; None where none was."""
    partial = manager().partial(jobs.search.key(loaded, setting))
    return _cancelled(loaded, setting, partial) if isinstance(partial, SearchOutcome) else None


def found_by_search(loaded: LoadedModel, setting: Setting) -> SearchOutcome | None:
    """The search while it runs, and its verdict at its end; None before."""
    key = jobs.search.key(loaded, setting)
    outcome = result_or_progress(key, lambda details: _live(details, setting.search.objective))
    if outcome is not None:
        evaluation = jobs.evaluate.result(loaded, setting, outcome) if setting.rope.tie else None
        _verdict(outcome.report, setting, evaluation)
    elif not running(key):
        st.info(
            "No search under this setup yet. It starts with the diagnosis its bounds come from, if that is "
            "missing. Scales can be tried by hand below without one."
        )
    return outcome


def _cancelled(loaded: LoadedModel, setting: Setting, partial: SearchOutcome) -> SearchOutcome:
    report = partial.report
    left = 1 - report.objective_found / report.objective_identity
    st.info(
        f"Tune {literal(loaded.name)}: cancelled. **Best so far kept, its gain not measured**: {report.trials:d} "
        f"candidates lower the {literal(report.objective)} objective by {left:.1%}. Resume tries only what is left, "
        "then checks short context and development text.",
        icon=":material/pause_circle:",
    )
    with st.container(horizontal=True):
        if click := pressed("Resume", type="primary", icon=":material/resume:"):
            jobs.search.start(loaded, setting, partial)
            click.over()
        if click := pressed("Start over", icon=":material/restart_alt:"):
            jobs.search.start(loaded, setting)
            click.over()
    return partial


def _live(details: tuple, objective: str) -> None:
    """Best so far and every candidate, while the search runs."""
    seen = search_trace.candidates_of(details)
    if seen:
        st.metric(f"Best of {number_of(len(seen), 'candidate')} so far", f"{seen[-1].best:.5g}")
        picture(search_trace.candidates(seen, objective), "live", table=False)


def _verdict(report: SearchReport, setting: Setting, evaluation: Evaluation | None) -> None:
    """What the search decided; under a tie never without what the tie costs."""
    good = report.chosen == "found"
    tied = capital(under_a_tie(setting.rope.tie, evaluation))
    after = (" The scales are kept." if good else "") + (f"  \n{literal(tied)}." if tied else "")
    finding(None if good and loses_to_tie(evaluation) else good, capital(f"{report.reason}."), after)
