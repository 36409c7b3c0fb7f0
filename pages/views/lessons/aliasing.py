"""Step 4: band kernels and their side peaks."""

from __future__ import annotations

import streamlit as st

from pages.views.lessons.step import FACTORS, answer, question
from pages.views.render import picture
from qroar_core.figures.lessons import aliasing as figures
from qroar_core.interpolations.registry import label_of
from qroar_core.lessons.aliasing import aliasing
from qroar_core.lessons.heads import STRETCHING, Head

BANDS = 8  # the software's default partition
REACHES = [64, 256, 1024, 4096, 16384]  # tokens


@st.fragment
def aliasing_step(head: Head) -> None:
    """Kernel of one band over distance, and the highest side peak of all."""
    question("aliasing")
    one, two, three, four = st.columns([2, 2, 2, 3])
    method = one.selectbox(
        "Interpolation",
        STRETCHING,
        STRETCHING.index("yarn"),
        format_func=label_of,
        key="learn_method",
        persist_state="session",
    )
    factor = two.select_slider(
        "Its factor s", FACTORS, 4.0, key="learn_alias_factor", persist_state="session", format_func="×{:g}".format
    )
    reach = three.select_slider(
        "Distances up to", REACHES, 1024, key="learn_reach", persist_state="session", format_func="{:,}".format
    )
    band = four.select_slider("Band, fast to slow", range(BANDS), 3, key="learn_band", persist_state="session")
    shown = aliasing(head, method, factor, BANDS, reach)
    picture(figures.kernel(shown, band), "learn kernel")
    picture(figures.peaks(shown), "learn peaks")
    answer(
        "A band alone measures a distance by its kernel $C_b(D)$: equal q and k score 1 at distance 0 and less further "
        "out. When the hands of a band's clocks line up again, the kernel rises: an **alias**, a far "
        "token that looks near. The sum over all bands stays low there as long as each is exact; with an error in one, "
        "from a coarse quantizer say, the far token may score higher than the near one. Interpolation stretches the "
        "kernels of the bands it slows and so moves their aliases outward.",
        "learn_answer_aliasing",
    )
