"""The dashboard benchmark: every page, in front of a diagnosis of another size than the model that is loaded."""

import pytest
import streamlit as st

from benchmarks import dashboard

DIAGNOSED = ("bands", "noise", "outliers", "pressure", "tails")


@pytest.mark.slow
def test_every_page_draws_what_is_planted(monkeypatch, tmp_path):
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path))
    st.cache_resource.clear()
    found = dashboard.measured(1024, {"layers": 3, "kv_heads": 2, "head_dim": 48, "bands": 5, "hidden": 60}, repeats=2)
    st.cache_resource.clear()
    assert {"bands", "evidence", "remedies"} < found.keys()
    assert [page for page in (*DIAGNOSED, "tune", "evaluate") if found[page][1] == 0] == []  # each shows a figure
    assert all(interaction > 0 and opened > 0 for interaction, _, opened in found.values())
