"""Learn: the mechanism by hand in six steps; needs no model."""

import streamlit as st

from pages.parts import session
from pages.parts.learn.aliasing import aliasing_step
from pages.parts.learn.bends import bends_step
from pages.parts.learn.clocks import clocks_step
from pages.parts.learn.shared_step import shared_step_step
from pages.parts.learn.step import contents, pick_head
from pages.parts.learn.turning import turning_step
from pages.parts.learn.window import window_step

session.choice()  # on a new server whose first address is this page, it brings the menu and the look of app.py
st.title("The mechanism by hand")
st.write(
    "Why quantization costs more at long context, and what one scale per frequency band can do about it. Six "
    "questions; play with each figure before you open its answer. No model is needed: every number here comes from the "
    "functions that measure a real one."
)
contents()
head = pick_head()
clocks_step(head)
window_step(head)
bends_step(head)
aliasing_step(head)
turning_step()
shared_step_step()
st.page_link("pages/start.py", label="Now on a real model: Start", icon=":material/arrow_forward:")
