"""Boxes around sentences made elsewhere, a finding of a run or a refusal: both are shown as they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from qroar_core.errors import QRoarError
from qroar_core.escape import literal

ERROR = ":material/error:"


def finding(good: bool | None, sentence: str, after: str = "", icon: str | None = None) -> None:
    """A finding in bold: green where it is good, orange where it is not, blue where it is neither; `after` is ours."""
    said = f"**{literal(sentence.rstrip())}**{after}"
    if good is None:
        st.info(said, icon=icon)
    elif good:
        st.success(said, icon=icon)
    else:
        st.warning(said, icon=icon)


def findings(good: bool, sentences: list[str] | tuple[str, ...]) -> None:
    """Several findings as a list in one box."""
    said = "\n".join(f"- {literal(sentence)}." for sentence in sentences)
    if good:
        st.success(said)
    else:
        st.warning(said)


def refused(problem: object, after: str = "") -> None:
    """One line on what went wrong: what, where, what to do; `after` is ours."""
    st.error(f"{literal(problem)}{after}", icon=ERROR)


def unless_refused(start: Callable[[], object]) -> bool:
    """Call `start`; False where it was refused, which one line then says."""
    try:
        start()
    except QRoarError as problem:
        refused(problem)
        return False
    return True


def links(above: str, found: Sequence[tuple[str, str]]) -> None:
    """A list of links to headings of the page, each an anchor and the words shown."""
    st.markdown(f"**{literal(above)}**\n" + "\n".join(f"- [{literal(words)}](#{anchor})" for anchor, words in found))
