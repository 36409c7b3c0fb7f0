"""What is hidden, where and how often: the controls of the Retrieval page."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import streamlit as st

from pages.forms.build_spec import build_or_keep
from pages.forms.evaluation import LENGTHS
from pages.state.session import beside, keep_beside
from pages.state.widget_state import chosen, fill, number
from qroar_core.errors import BadText
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.retrieval.figure import TASK_WORDS
from qroar_core.retrieval.prompts import chat_template, shortest
from qroar_core.setting import Setting
from qroar_core.specs import RetrievalSpec, RetrievalTask

DEPTHS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)  # offered
TASK_HELP = (
    "Passkey: one number in the text. Needles: several numbers, each with a name, one of them asked for; "
    "the model must not only find a number but the right one."
)


def retrieval_form(loaded: LoadedModel, setting: Setting) -> RetrievalSpec:
    """This visitor's spec; its lengths are the evaluation's until they are changed here."""
    near = setting.evaluation.lengths
    least = min(_needs(loaded, setting, RetrievalSpec(tasks=get_args(RetrievalTask))).values(), default=2)
    held = tuple(n for n in near if n >= least) or (next(n for n in LENGTHS if n >= least),)
    fresh = RetrievalSpec(lengths=held)
    same, spec = beside("retrieval", near, fresh)
    lengths = spec.lengths if same else ()  # an address may leave them out
    spec = _form(loaded, setting, replace(spec, lengths=lengths or held), least)
    keep_beside(near, chosen("retrieval", spec), retrieval=(spec, fresh))
    return spec


def prompt_count(spec: RetrievalSpec) -> int:
    """Prompts of one condition."""
    return len(spec.tasks) * len(spec.lengths) * len(spec.depths) * spec.trials


def _needs(loaded: LoadedModel, setting: Setting, spec: RetrievalSpec) -> dict[RetrievalTask, int]:
    """Tokens of each task's prompt before any text; empty where none can be made: the job says why."""
    try:
        return {task: shortest(loaded.tokenizer, setting.bos_word, spec, task) for task in spec.tasks}
    except BadText:
        return {}


def _form(loaded: LoadedModel, setting: Setting, spec: RetrievalSpec, least: int) -> RetrievalSpec:
    chatty = chat_template(loaded.tokenizer)
    fill(
        "retrieval",
        spec,
        {
            "retrieval tasks": list(spec.tasks),
            "retrieval lengths": list(spec.lengths),
            "retrieval depths": list(spec.depths),
            "retrieval trials": spec.trials,
            "retrieval choices": spec.choices,
            "retrieval slack": spec.slack,
            "retrieval chat": spec.chat,
        },
    )
    longest = max(setting.search.length or 0, *setting.evaluation.lengths, *spec.lengths)
    offered = sorted({*spec.lengths, *(n for n in LENGTHS if least <= n <= longest)})
    one, two, three = st.columns([2, 2, 1])
    tasks = one.multiselect(
        "Hidden",
        list(get_args(RetrievalTask)),
        format_func=TASK_WORDS.__getitem__,
        help=TASK_HELP,
        key="retrieval tasks",
    )
    lengths = two.multiselect("Context lengths, tokens", offered, key="retrieval lengths")
    trials = number(three, "Trials per cell", 1, 200, "retrieval trials")
    depths = st.multiselect(
        "Depths in the text",
        sorted({*DEPTHS, *spec.depths}),
        format_func="{:.0%}".format,
        key="retrieval depths",
        help="The share of the text that comes before the hidden number.",
    )
    with st.expander("Options"):
        five, six, seven = st.columns(3, vertical_alignment="bottom")
        choices = number(
            five,
            "Candidates",
            2,
            32,
            "retrieval choices",
            help="How many numbers the right one is ranked among; for needles, those hidden.",
        )
        slack = number(
            six,
            "Extra answer tokens",
            1,
            256,
            "retrieval slack",
            help="Tokens a generated answer may be longer than the number itself.",
        )
        chat = seven.checkbox(
            "Ask through the chat template",
            key="retrieval chat",
            disabled=not chatty,
            help="The tokenizer's own." if chatty else "This tokenizer has none; the question is asked in plain text.",
        )
    needs = [f"{n} tokens ({TASK_WORDS[task]})" for task, n in _needs(loaded, setting, spec).items()]
    if needs:
        taken = literal(" and ".join(needs))
        st.caption(f"Question and answer take {taken} before any text: shorter lengths hold no prompt.")
    if not (tasks and lengths and depths):
        st.warning("Choose at least one task, length and depth; until then the earlier ones stay.")
    return build_or_keep(
        lambda: replace(
            spec,
            tasks=tuple(t for t in get_args(RetrievalTask) if t in tasks) or spec.tasks,
            lengths=tuple(sorted(lengths)) or spec.lengths,
            depths=tuple(sorted(depths)) or spec.depths,
            trials=int(trials),
            choices=int(choices),
            slack=int(slack),
            chat=bool(chat),
        ),
        spec,
    )
