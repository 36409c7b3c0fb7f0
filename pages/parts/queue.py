"""The queue of jobs in the sidebar of every page: what runs, what waits behind how many, and Cancel for each."""

from __future__ import annotations

import streamlit as st

from pages.parts.session import manager
from pages.parts.words import progress_words
from qroar_core.escape import literal
from qroar_core.job import Snapshot

POLL = 2  # seconds between looks at the queue


def queue() -> None:
    """Draw the queue while there is one. When it is empty the page runs once more: results may have come."""
    if manager().active():
        with st.sidebar:
            st.fragment(_jobs, run_every=POLL)()


def _jobs() -> None:
    jobs = manager().active()
    if not jobs:
        st.rerun()
    st.markdown("**1 job**" if len(jobs) == 1 else f"**{len(jobs):d} jobs**")
    for at, job in enumerate(jobs):
        _one(job, at)


def _one(job: Snapshot, at: int) -> None:
    with st.container(border=True, key=f"queued {at}", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container():
            if job.state == "running":
                st.progress(job.step.fraction if job.step else 0.0, text=literal(progress_words(job)))
            else:
                st.caption(literal(progress_words(job)))
        st.button(
            "Cancel", key=f"cancel in the queue {hash(job.key)}", on_click=manager().cancel, args=(job.key,),
            disabled=job.cancelling, type="tertiary", help=f"Stop “{literal(job.label)}”",
        )  # fmt: skip
