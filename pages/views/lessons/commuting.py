"""Step 7: what may be done to q and k before RoPE."""

from __future__ import annotations

import streamlit as st

from pages.views.glossary import term_help
from pages.views.lessons.step import answer, question
from pages.views.render import folded, picture
from qroar_core.escape import literal
from qroar_core.figures.lessons import commuting as figures
from qroar_core.lessons.captured_head import KV_HEAD, LAYER
from qroar_core.lessons.commuting import FIRST, LAST, LOUDEST, MOVES, commuting, every_move

SHARE = st.column_config.NumberColumn(format="percent")
COLUMNS = {
    "largest change": st.column_config.NumberColumn(
        format="%.2g", help="Of a logit, at the amount each transform starts at."
    ),
    "int4 logit error without": SHARE,
    "at the best amount": SHARE,
    "int4 K error without": SHARE,
    "K error at that amount": SHARE,
}


@st.fragment
def commuting_step() -> None:
    """One transform of a real pair: its logit at every distance, and what int4 makes of it."""
    question("commuting")
    one, two, three, four = st.columns([3, 3, 2, 2])
    kind = one.selectbox(
        "Transform",
        MOVES,
        format_func=lambda k: MOVES[k].label,
        key="learn_move",
        persist_state="session",
        help=term_help("Transform"),
    )
    move = MOVES[kind]
    amount = two.select_slider(
        literal(move.knob),
        move.amounts,
        move.start,
        key=f"learn_amount_{kind}",
        persist_state="session",
        format_func="{:g}".format,
    )
    pair = three.slider(
        "RoPE pair",
        FIRST,
        LAST,
        LOUDEST,
        key="learn_move_pair",
        persist_state="session",
        help="Mixing takes the next one too.",
    )
    distance = four.slider("Distance shown", 0, 1023, 200, key="learn_move_distance", persist_state="session")
    shown = commuting(kind, amount, pair, distance)
    swept = shown.sweep
    picture(figures.commuting(shown), "learn commuting")
    with st.container(horizontal=True, gap="large"):
        st.metric("Largest change of a logit", f"{shown.deviation:.2g}", border=True, width="content")
        for name, before, after in (
            ("Logit error", swept.plain_error, swept.error[shown.at]),
            ("K error", swept.plain_key_error, swept.key_error[shown.at]),
        ):
            st.metric(f"{literal(name)} with int4 K", f"{before:.1%} → {after:.1%}", border=True, width="content")
    with folded("Every transform of this pair in one table") as opened:
        if opened:
            every = figures.summary(every_move(pair))
            st.dataframe(every, hide_index=True, key="learn_moves_summary", column_config=COLUMNS)
    st.caption(
        f"q and K of layer {LAYER}, KV head {KV_HEAD} of the demo model under YaRN ×4, 1,024 tokens, one int4 scale a "
        "token. K error is counted with the transform undone. Pairs of one frequency are tied, a still pair is held "
        "still, with and without the transform."
    )
    answer(
        "With k → M k and q → M⁻ᵀ q a logit at distance D becomes $q^T M^{-1} R(D)\\,M k$: it stays at every D only "
        "if M **commutes** with the turning R. Scaling and turning a pair do; scaling one axis, swapping axes and "
        "mirroring do not. Two pairs may be mixed if they turn at one frequency. On a pair that stands still anything "
        "may be done, and a constant may be taken off K, since it adds the same number to all logits of a query. What "
        "commutes is multiplied into W_Q and W_K once and costs nothing; what it buys is a smaller int4 step: try the "
        "loud pair 18, then pair 21. A transform that does not commute may lower the error too, but the model it "
        "serves is another.",
        "learn_answer_commuting",
    )
