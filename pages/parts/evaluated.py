"""What an evaluation says, from the sentence down to the counts."""

from __future__ import annotations

import streamlit as st

from pages.parts.setting_form import TEXT_WORDS
from pages.parts.show import numbers, picture
from qroar_core.figures import evaluation, quality
from qroar_core.results import Evaluation
from qroar_core.runs.setting import Setting


def evaluated(result: Evaluation, setting: Setting) -> None:
    """The finding, the numbers to see first, the counts, and every figure."""
    good = result.gain is not None and result.gain.significant
    (st.success if good else st.warning)(f"**{result.sentence[:1].upper()}{result.sentence[1:]}**")
    named = TEXT_WORDS.get(setting.text)
    st.caption(
        f"Measured on held-out text of `{setting.text}`{f', {named}' if named else ''}: documents that neither the "
        f"diagnosis nor the search has read. {result.text}."
    )
    with st.container(horizontal=True, key="headline"):  # as wide as its words, in more rows where there is no room
        for name, value, unit in evaluation.headline(result):
            st.metric(name, value, help=unit, border=True, width="content")
    with st.container(border=True):
        st.markdown("#### Counted as llama.cpp counts")
        st.dataframe(quality.readable(quality.table(result)), hide_index=True, key="counts", height="content",
                     column_config={"condition": st.column_config.TextColumn(width=240)})  # fmt: skip
        st.caption("± is the standard error over windows; that of the ln ratio is paired, the same window under both. "
                   "KL is to the reference's prediction, in nats per token.")  # fmt: skip
        everything = quality.closeness(result)
        if everything is not None:
            with st.expander("Every number of llama.cpp's KL report"):
                numbers(everything, "closeness")
                st.caption("Δp is how the true token's probability moves, in percentage points; percentiles are over "
                           "tokens, standard errors over windows.")  # fmt: skip
    picture(evaluation.perplexity_by_length(result), "ppl")
    picture(evaluation.cost_by_length(result), "cost")
    picture(evaluation.by_position(result), "position")
    picture(evaluation.gain_and_attribution(result), "gain")
    picture(quality.rotation(result), "rotation")
    picture(quality.divergence(result), "divergence")
