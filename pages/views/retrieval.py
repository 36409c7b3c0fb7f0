"""What a retrieval says: the sentences, the maps, and every answer word by word."""

from __future__ import annotations

import streamlit as st

from pages.views.boxes import finding
from pages.views.render import findings_first, numbers, picture
from qroar_core.escape import code, literal
from qroar_core.retrieval import figure as drawn
from qroar_core.retrieval.result import Retrieval
from qroar_core.setting import Setting
from qroar_core.specs.labels import TEXT_WORDS, checksum_words


def show_retrieval(result: Retrieval, setting: Setting) -> None:
    """The finding of each task, the score to look at, and each task's maps and answers."""
    tuned = any(apart.what == "tuned - quantized" for apart in result.differences)
    for found in result.findings:
        finding(True if found.significant else False if tuned else None, f"{found.sentence}.")
    asked = "through the tokenizer's chat template" if result.chat else "in plain text"
    named = f", {TEXT_WORDS[setting.text]}" if setting.text in TEXT_WORDS else ""
    st.caption(
        f"Hidden in held-out text of {code(setting.text)}{literal(named)}; asked {literal(asked)}. "
        f"{literal(checksum_words(result.text))}. "
        "The same trials under every condition, so differences are paired."
    )
    retrieves = any(cell.hits for cell in result.cells if cell.model == "reference")
    scores = list(drawn.SCORES)
    score = st.radio(
        "Scored by",
        scores,
        scores.index("hits" if retrieves else "log_prob"),
        horizontal=True,
        format_func=drawn.SCORES.__getitem__,
        key="retrieval score",
    )
    with findings_first():
        for task in result.tasks:
            picture(drawn.by_condition(result, task, score), f"found {task} {score}")
            picture(drawn.differences(result, task, score), f"found {task} {score} differences")
            with st.expander(f"{literal(drawn.TASK_WORDS[task])}: what each model answered"):
                numbers(drawn.answers(result, task), f"found {task} answers")
