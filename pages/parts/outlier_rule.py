"""What counts as an outlier on the Outliers page: any rule that the diagnosis was counted under, at once."""

from __future__ import annotations

from collections.abc import Hashable

import streamlit as st

from pages.parts import pick
from qroar_core.diagnostics.outliers import figure_rules
from qroar_core.results import Diagnosis

RULE_WORDS = {"iqr": "interquartile range (IQR)", "mad": "median deviation (MAD)", "percentile": "percentile"}
PARAMETER_WORDS = {"iqr": "Fence above Q3, interquartile ranges", "mad": "Modified z-score",
                   "percentile": "Quantile"}  # fmt: skip


def by_rule(result: Diagnosis, of: Hashable) -> Diagnosis:
    """The diagnosis with outliers by the rule and the parameter picked; itself where a file has one rule only."""
    found = result.outliers
    rules = [rule for rule in RULE_WORDS if found.parameters(rule)]
    if not rules or found.parameter is None:
        return result
    start = {rule: found.parameters(rule)[len(found.parameters(rule)) // 2] for rule in rules}
    start[found.rule] = found.parameter
    keys = {rule: f"outlier parameter {rule}" for rule in rules}
    pick.keep("outlier rule picked", of, {"outlier rule": found.rule} | {keys[rule]: start[rule] for rule in rules})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        rule = st.segmented_control("An outlier is found by", rules, key="outlier rule", required=True,
                                    format_func=RULE_WORDS.get)  # fmt: skip
        parameter = st.select_slider(PARAMETER_WORDS[rule], found.parameters(rule), key=keys[rule],
                                     format_func="{:g}".format)  # fmt: skip
    st.caption("Figures below follow at once. Any other parameter is counted by a new diagnosis: see Options above.")
    pick.remember("outlier rule picked", of, "outlier rule", *keys.values())
    return figure_rules.seen(result, rule, parameter)
