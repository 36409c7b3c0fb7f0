"""Start, watch, cancel and resume the search; then its verdict."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.boxes import capital, finding
from pages.parts.elsewhere import source_of
from pages.parts.show import picture
from pages.parts.watch import running, watch
from pages.parts.work import searching
from qroar_core.escape import literal
from qroar_core.figures import search_trace
from qroar_core.models.loaded import LoadedModel
from qroar_core.results.search import Verdict
from qroar_core.runs.setting import Setting


def searched(loaded: LoadedModel, setting: Setting, said: Verdict) -> Any:
    """The outcome of the search, finished or cancelled with a best so far; None when there is neither."""
    key = searching.key(loaded, setting)
    partial = searching.partial(loaded, setting)
    if partial is not None:
        return _cancelled(loaded, setting, partial)
    done = searching.result(loaded, setting) is not None and source_of(key) is None
    first = "primary" if said.acts == "yes" else "secondary"
    why = "Searched already: another setting or other bounds make another search." if done else None
    if st.button("Start the search", type=first, disabled=done or running(key), icon=":material/play_arrow:", help=why):
        searching.start(loaded, setting)
        st.rerun()
    outcome = watch(key, lambda details: _live(details, setting.search.objective))
    if outcome is not None:
        _verdict(outcome.report)
    elif not running(key):
        st.info("No search under this setting yet. It starts with the diagnosis its bounds come from, if that is "
                "missing. Scales can be tried by hand below without one.")  # fmt: skip
    return outcome


def _cancelled(loaded: LoadedModel, setting: Setting, partial: Any) -> Any:
    report = partial.report
    left = 1 - report.objective_found / report.objective_identity
    st.info(
        f"Tune {literal(loaded.name)}: cancelled. **Best so far kept, its gain not measured**: {report.trials:d} "
        f"candidates lower the {literal(report.objective)} objective by {left:.1%}. Resume tries only what is left, "
        "then checks short context and development text.",
        icon=":material/pause_circle:",
    )
    with st.container(horizontal=True):
        if st.button("Resume", type="primary", icon=":material/resume:"):
            searching.start(loaded, setting, partial)
            st.rerun()
        if st.button("Start over", icon=":material/restart_alt:"):
            searching.start(loaded, setting)
            st.rerun()
    return partial


def _live(details: tuple, objective: str) -> None:
    """Best so far and every candidate, while the search runs."""
    seen = search_trace.candidates_of(details)
    if seen:
        st.metric(f"Best of {len(seen):d} candidates so far", f"{seen[-1].best:.5g}")
        picture(search_trace.candidates(seen, objective), "live", table=False)


def _verdict(report: Any) -> None:
    good = report.chosen == "found"
    finding(good, capital(f"{report.reason}."), " The scales are kept." if good else "")
