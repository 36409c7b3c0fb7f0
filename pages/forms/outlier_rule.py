"""What counts as an outlier on the Outliers page: any rule that the diagnosis was counted under, at once."""

from __future__ import annotations

from collections.abc import Hashable

import streamlit as st

from pages.state import selection
from pages.state.widget_state import one_of
from qroar_core.diagnostics.outliers import figure_rules
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.specs import OUTLIER_RULES
from qroar_core.specs.outliers import PARAMETER_LABELS


def by_rule(result: Diagnosis, of: Hashable) -> Diagnosis:
    """The diagnosis with outliers by the rule and the parameter picked; itself where a file has one rule only."""
    found = result.outliers
    rules = [rule for rule in OUTLIER_RULES if found.parameters(rule)]
    if not rules or found.parameter is None:
        return result
    start = {rule: found.parameters(rule)[len(found.parameters(rule)) // 2] for rule in rules}
    start[found.rule] = found.parameter
    keys = {rule: f"outlier parameter {rule}" for rule in rules}
    selection.keep(
        "outlier rule picked", of, {"outlier rule": found.rule} | {keys[rule]: start[rule] for rule in rules}
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        rule = one_of(
            "An outlier is found by", rules, "outlier rule", format_func=lambda rule: OUTLIER_RULES[rule].label
        )
        parameter = st.select_slider(
            PARAMETER_LABELS[rule], found.parameters(rule), key=keys[rule], format_func="{:g}".format
        )
    st.caption("Figures below follow at once. Any other parameter needs a new diagnosis: see Options above.")
    selection.remember("outlier rule picked", of, "outlier rule", *keys.values())
    return figure_rules.seen(result, rule, parameter)
