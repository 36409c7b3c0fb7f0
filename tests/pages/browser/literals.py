"""A page of hostile strings in everything that takes Markdown, each in a box whose key names the place."""

import streamlit as st

from qroar_core.escape import code, literal
from tests.helpers.hostile import ALL, STRINGS

PLACES = {
    "body": st.markdown,
    "bold": lambda words: st.markdown(f"**{words}**: x"),
    "write": st.write,
    "item": lambda words: st.markdown(f"- {words}."),
    "heading": lambda words: st.markdown(f"#### {words}"),
    "caption": lambda words: st.caption(f"About {words}, and on."),
    "error": st.error,
    "subheader": st.subheader,
    "badge": lambda words: st.badge(words, icon=":material/memory:"),
    "title": st.title,
    "expander": st.expander,
    "metric": lambda words: st.metric(words, words),
    "progress": lambda words: st.progress(0.5, text=words),
    "tabs": lambda words: st.tabs([words]),
    "table": lambda words: st.table({"a": [words]}),
}
for at, text in enumerate([*STRINGS, ALL]):
    for place, draw in PLACES.items():
        with st.container(key=f"{place}-{at}"):
            draw(literal(text))
    with st.container(key=f"button-{at}"):
        st.button(f"Load {literal(text)}", key=f"pressed {at}", help=literal(text))
    with st.container(key=f"radio-{at}"):
        st.radio("one", [literal(text)], key=f"picked {at}")
    with st.container(key=f"code-{at}"):
        st.markdown(code(text))
st.write("the end of it")
if "fault" in st.query_params:
    raise ValueError(ALL)
