"""Learn: the mechanism by hand in eight steps; needs no model."""

import streamlit as st

from pages.state import session
from pages.views import glossary
from pages.views.lessons.aliasing import aliasing_step
from pages.views.lessons.clocks import clocks_step
from pages.views.lessons.commuting import commuting_step
from pages.views.lessons.interpolations import interpolations_step
from pages.views.lessons.shared_step import shared_step_step
from pages.views.lessons.step import contents, pick_head
from pages.views.lessons.tied_clocks import tied_clocks_step
from pages.views.lessons.turning import turning_step
from pages.views.lessons.window import window_step

session.choice()  # on a new server whose first address is this page, it brings the menu and the look of app.py
glossary.title("Learn")
st.write(
    "Why quantization costs more at long context, and what can be done about it for free. Eight "
    "questions; play with each figure before you open its answer. No model is needed: every number here comes from the "
    "functions that measure a real one."
)
contents()
head = pick_head()
clocks_step(head)
window_step(head)
interpolations_step(head)
aliasing_step(head)
turning_step()
shared_step_step()
commuting_step()
tied_clocks_step()
st.page_link("pages/start.py", label="Now on a real model: Start", icon=":material/arrow_forward:")
