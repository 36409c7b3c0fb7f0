"""Learn: the mechanism by hand in eight steps, one at a time; needs no model."""

import streamlit as st

from pages.state import session
from pages.state.widget_state import delivered
from pages.views import glossary
from pages.views.lessons.aliasing import aliasing_step
from pages.views.lessons.clocks import clocks_step
from pages.views.lessons.commuting import commuting_step
from pages.views.lessons.interpolations import interpolations_step
from pages.views.lessons.shared_step import shared_step_step
from pages.views.lessons.step import next_lesson, pick_head, pick_lesson
from pages.views.lessons.tied_clocks import tied_clocks_step
from pages.views.lessons.turning import turning_step
from pages.views.lessons.window import window_step

OF_A_HEAD = {
    "clocks": clocks_step,
    "window": window_step,
    "interpolation": interpolations_step,
    "aliasing": aliasing_step,
}
OTHERS = {
    "grid": turning_step,
    "scale": shared_step_step,
    "commuting": commuting_step,
    "tying": tied_clocks_step,
}

session.choice()  # on a new server whose first address is this page, it brings the menu and the look of app.py
glossary.title("Learn")
st.write(
    "Why quantization costs more at long context, and what helps for free, in eight questions. Play with the figure, "
    "then open the answer. No model is needed."
)
lesson = pick_lesson()
if lesson in OF_A_HEAD:
    OF_A_HEAD[lesson](pick_head())
else:
    OTHERS[lesson]()
next_lesson(lesson)
delivered()
