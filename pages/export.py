"""Export: scales.json, or the whole checkpoint with the scales and the interpolation inside."""

import streamlit as st

from pages.parts import recipes, session
from pages.parts.paths import confined
from pages.parts.strip import strip
from pages.parts.watch import watch
from pages.parts.work import evaluating, exporting, searching
from qroar_core.errors import QRoarError
from qroar_core.models.scales_file import to_file

st.title("Export")
loaded, setting = session.require_model()
strip(loaded, setting)

outcome = searching.result(loaded, setting)
proof = evaluating.result(loaded, setting, outcome) if outcome else None
offered = recipes.offered(loaded, setting, outcome, proof)
picked = st.selectbox("Scales to export", list(offered), key="export scales")
scales, why = offered[picked]
st.caption(why)
if outcome is None:
    st.info("No scales are tuned under this setting yet. You can still export the interpolation alone.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")

st.subheader("scales.json")
content = to_file(loaded, setting.rope, setting.quant, scales, recipes.search_facts(outcome))
st.download_button("Download scales.json", content.to_json(), "scales.json", "application/json", on_click="ignore",
                   type="primary", icon=":material/download:")  # fmt: skip
again = recipes.command(loaded, setting)
if again:
    st.caption("Measure it again from the command line")
    st.code(again, language="bash")

st.subheader("Checkpoint folder")
with st.form("checkpoint"):
    typed = st.text_input("New folder", recipes.default_folder(loaded), key="folder")
    if st.form_submit_button("Write the checkpoint", icon=":material/save:"):
        try:
            st.session_state["export key"] = exporting.start(loaded, setting, scales, confined(typed))
        except QRoarError as problem:
            st.error(str(problem))
written = watch(st.session_state.get("export key", ()))
if written is not None:
    st.success(f"Written to `{written}`. Plain transformers loads it; nothing of this software is needed.")
    for runtime, text in recipes.loading(written, setting).items():
        st.caption(runtime)
        st.code(text, language="python" if runtime == "transformers" else "bash")
