"""What an evaluation says, from the sentence down to the counts."""

from __future__ import annotations

import streamlit as st

from pages.views.boxes import finding
from pages.views.render import folded, heading, numbers, picture
from qroar_core.escape import code, literal
from qroar_core.evaluation import figure as evaluation
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation.headline import Headline, headline
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import decided_on_held_out, kept_words, why_different
from qroar_core.scale_search.result import SearchReport
from qroar_core.setting import Setting
from qroar_core.specs.labels import TEXT_WORDS, capital, checksum_words


def show_finding(result: Evaluation) -> None:
    """The finding and the numbers to see first."""
    if result.caveat:
        finding(None, capital(result.sentence), f".  \nBut {literal(result.caveat)}.")
    else:
        finding(result.gain is not None and result.gain.significant, capital(result.sentence))
    if result.tie is not None and result.tie.sentence not in result.caveat:
        finding(result.tie.ci_low is not None and result.tie.ci_low > 0, capital(result.tie.sentence))
    with st.container(horizontal=True, key="headline"):  # as wide as its words, in more rows where there is no room
        for number in headline(result):
            _box(number)


def show_figures(result: Evaluation, setting: Setting, searched: SearchReport | None) -> None:
    """What it was measured on, every figure, and the counts. `searched`: of the tuned scales."""
    named = f", {TEXT_WORDS[setting.text]}" if setting.text in TEXT_WORDS else ""
    st.caption(
        f"Measured on held-out text of {code(setting.text)}{literal(named)}: {literal(_unread(searched))} "
        f"{literal(checksum_words(result.text))}."
    )
    if searched is not None:
        said = " ".join(map(_sentence, (kept_words(searched, result), _differ(searched, result))))
        st.markdown(literal(said))
    picture(evaluation.perplexity_by_length(result), "ppl")
    picture(evaluation.gain_and_attribution(result), "gain")
    picture(figure_kl.rotation(result), "rotation")
    with folded("The same as llama.cpp measures it: every condition at every length, with KL divergence") as opened:
        if opened:
            _counts(result)
    with folded("What quantization costs by length and by position, and how far predictions move") as opened:
        if opened:
            picture(evaluation.cost_by_length(result), "cost")
            picture(evaluation.by_position(result), "position")
            picture(figure_kl.divergence(result), "divergence")


def _counts(result: Evaluation) -> None:
    """The table that llama.cpp's perplexity tool prints, of the same quantities."""
    with st.container(border=True):
        heading("Measured as llama.cpp measures", "counts", "box")
        st.dataframe(
            figure_kl.readable(figure_kl.table(result)),
            hide_index=True,
            key="counts",
            height="content",
            column_config={"condition": st.column_config.TextColumn(width=240)},
        )
        st.caption(
            "± is the standard error over windows; that of the ln ratio is paired, the same window under both. "
            "KL is to the reference's prediction, in nats per token. A Hadamard rotation "
            "must be done by the runtime."
        )
        everything = figure_kl.kl_report(result)
        if everything is not None:
            with st.expander("Every number of llama.cpp's KL report"):
                numbers(everything, "kl_report")
                st.caption(
                    "Δp is how the true token's probability moves, in percentage points; percentiles are over "
                    "tokens, standard errors over windows."
                )


def _box(number: Headline) -> None:
    """A number with its interval; without a large figure where it may be zero."""
    beside = literal(number.beside) if number.beside else None
    if not number.muted:
        st.metric(
            literal(number.name),
            literal(number.value),
            beside,
            delta_color="off",
            delta_arrow="off",
            help=literal(number.meaning),
            border=True,
            width="content",
        )
        return
    with st.container(border=True, width="content", key="muted headline"):
        st.markdown(f"{literal(number.name)}  \n:gray[{literal(number.value)}]", help=literal(number.meaning))
        st.caption(literal(number.beside))


def _differ(searched: SearchReport, result: Evaluation) -> str:
    return why_different(searched, result, "Tune", "this page")


def _unread(searched: SearchReport | None) -> str:
    if searched is not None and decided_on_held_out(searched):
        return (
            "documents that the diagnosis has not read; the search is of an older version, which decided on "
            "windows of them whether to keep its scales."
        )
    return "documents that neither the diagnosis nor the search has read, nor its decision whether to keep the scales."


def _sentence(words: str) -> str:
    return f"{capital(words)}." if words else ""
