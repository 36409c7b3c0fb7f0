"""Runs: what was found before, by the dashboard or the command line, opened and compared."""

import streamlit as st

from pages.parts import session
from pages.parts.history import history, opened
from pages.parts.missing import missing
from pages.parts.strip import strip

st.title("Runs")
loaded, setting = session.model(), None
if loaded is not None:
    setting = session.require_setting(loaded)
    strip(loaded, setting)
    opened(loaded, setting)
elif session.choice().model:
    missing(session.choice())
history(loaded, setting)
