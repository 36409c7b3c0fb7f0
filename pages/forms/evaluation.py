"""At which lengths and on how much text the evaluation compares."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.forms.build_spec import build_or_keep, counted
from pages.state.widget_state import fill, number
from pages.views.glossary import term_help
from qroar_core.specs import EvaluationSpec

LENGTHS = [2**n for n in range(6, 18)]  # context lengths offered, tokens
WINDOW_WORDS = {
    "full": "full: one window scores all targets of a text",
    "sliding": "sliding: move on, and score the last tokens of each window (slow)",
}


def evaluation_form(spec: EvaluationSpec, longest: int, can_rotate: bool) -> EvaluationSpec:
    """Where the conditions are compared. `longest`: tokens of the longest length to offer."""
    asked = {
        "lengths": list(spec.lengths),
        "evaluation windows": spec.windows,
        "rotation scales": spec.rotation_scales,
        "window kind": "full" if spec.stride is None else "sliding",
        "stride": spec.stride or max(1, min(spec.lengths, default=2) // 2),
    }
    fill("evaluation", spec, asked)
    one, two = st.columns([3, 1])
    offered = sorted({*spec.lengths, *(n for n in LENGTHS if n <= longest)})
    lengths = one.multiselect("Context lengths, tokens", offered, key="lengths")
    windows = number(two, "Windows of text", 2, 256, "evaluation windows", help=term_help("Window"))
    three, four = st.columns([3, 1])
    kind = three.selectbox(
        "Kind of windows", list(WINDOW_WORDS), format_func=WINDOW_WORDS.__getitem__, key="window kind"
    )
    stride = number(
        four,
        "Slide by, tokens",
        1,
        LENGTHS[-1],
        "stride",
        disabled=kind == "full",
        help="Each target sees at least the context length less this.",
    )
    turned = st.checkbox(
        "Also search under the rotated quantizer (one more search)",
        key="rotation scales",
        disabled=not can_rotate,
        help="A Hadamard rotation of q and k is measured anyway; this adds what scales gain on top of it."
        if can_rotate
        else "A Hadamard rotation does not apply to this K quantizer, or it has one.",
    )
    if not lengths:
        st.warning("Choose at least one length; until then the earlier lengths stay.")
    return build_or_keep(
        lambda: replace(
            spec,
            lengths=tuple(sorted(lengths)) or spec.lengths,
            **counted(spec, windows),
            stride=None if kind == "full" else int(stride),
            rotation_scales=turned and can_rotate,
        ),
        spec,
    )
