"""The queue of jobs in the sidebar of every page, and what has changed since the page was drawn.

What runs, what waits behind how many, and Cancel for each. Other people's jobs too: a page that stands idle looks again
by itself.
"""

from __future__ import annotations

from collections.abc import Hashable

import streamlit as st

from pages.state.session import is_asked_here, manager, model
from pages.views.labels import progress_words
from qroar_core.escape import literal
from qroar_core.job import JobSnapshot
from qroar_core.runs.store import runs_root

POLL, IDLE = 2, 5  # seconds between looks while there is a queue, and while there is none
STATE_WHEN_DRAWN = "what others may change, as it was when the page was drawn"  # session
JOBS_WHEN_DRAWN = "keys of the jobs that the page was drawn with"  # session
BUSY = "the page showed a queue"  # session


def job_queue() -> None:
    """Draw the queue where there is one. When it is empty the page runs once more: results may have come."""
    st.session_state[STATE_WHEN_DRAWN] = _world()
    st.session_state[JOBS_WHEN_DRAWN] = {job.key for job in manager().active()}
    st.session_state[BUSY] = bool(st.session_state[JOBS_WHEN_DRAWN])
    with st.sidebar:
        st.fragment(_jobs, run_every=POLL if st.session_state[BUSY] else IDLE)()


def _jobs() -> None:
    jobs = manager().active()
    if not {job.key for job in jobs} <= st.session_state[JOBS_WHEN_DRAWN]:
        st.rerun()  # somebody else's job: the page may offer the same, and shows it under way then
    if not jobs:
        if st.session_state.pop(BUSY, False):
            st.rerun()
        _changes()
        return
    st.session_state[BUSY] = True
    st.markdown("**1 job**" if len(jobs) == 1 else f"**{len(jobs):d} jobs**")
    for at, job in enumerate(jobs):
        _one(job, at)


def _changes() -> None:
    """What somebody else, or this visitor in another tab, has changed. The page is left as it is until it is asked."""
    before, now = st.session_state.get(STATE_WHEN_DRAWN), _world()
    if before is None or before == now:
        return
    what = " and ".join(name for name in now if now[name] != before.get(name))
    st.warning(f"Changed since this page was drawn: {literal(what)}.", icon=":material/sync:")
    if st.button("Draw it again", key="draw it again", icon=":material/refresh:"):
        st.rerun()


def _world() -> dict[str, Hashable]:
    """What a page shows that may change without it, by name. No file is read."""
    loaded = model()
    applied = None if loaded is None or loaded.applied is None else (loaded.applied.digest, loaded.applied_under)
    try:
        runs = frozenset((path.name, path.stat().st_mtime_ns) for path in runs_root().iterdir())
    except OSError:
        runs = frozenset()  # none was ever kept, or one went while it was looked at
    return {"the model in memory": id(loaded), "the scales in the weights": applied, "the runs on disk": runs}


def _one(job: JobSnapshot, at: int) -> None:
    with st.container(border=True, key=f"queued {at}", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container():
            if job.state == "running":
                st.progress(job.step.fraction if job.step else 0.0, text=literal(progress_words(job)))
            else:
                st.caption(literal(progress_words(job)))
            if job.about:
                st.caption(literal(_whose(job)))
        st.button(
            "Cancel",
            key=f"cancel in the queue {hash(job.key)}",
            on_click=manager().cancel,
            args=(job.key,),
            disabled=job.cancelling,
            type="tertiary",
            help=f"Stop “{literal(job.label)}”{literal(f' ({_whose(job)})' if job.about else '')}",
        )


def _whose(job: JobSnapshot) -> str:
    """The setting, and whether it was asked here: two people may ask for one thing under two settings.

    What a session has asked for goes with it: a visitor's own job of before a reload looks like another person's.
    """
    starter = "started by you" if is_asked_here(job.key) else "started by another visitor, or before a reload"
    return f"{job.about}; {starter}"
