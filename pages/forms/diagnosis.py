"""The options of the diagnosis."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import streamlit as st

from pages.forms.build_spec import build_or_keep
from pages.state.widget_state import fill, menu, number, switch
from pages.views.glossary import term_help
from qroar_core.specs import DiagnosisSpec, DistanceLaw, OutlierRule
from qroar_core.specs.outliers import PARAMETER_LABELS, parameter_in_force


def diagnosis_form(spec: DiagnosisSpec) -> DiagnosisSpec:
    """Options of the diagnosis, apart from length and bands."""
    rules = list(get_args(OutlierRule))
    limits = {rule: spec.outlier_parameter if rule == spec.outlier_rule else None for rule in rules}
    fill(
        "diagnosis",
        spec,
        {
            "diagnosis windows": spec.windows,
            "eps": spec.eps,
            "law": spec.law,
            "outlier rule asked": spec.outlier_rule,
            "null draws": spec.null_draws,
            "paired": spec.paired,
            "band cost": spec.band_cost,
            **{f"outlier parameter asked {rule}": parameter_in_force(rule, limit) for rule, limit in limits.items()},
        },
    )
    with st.expander("Options"):
        one, two, three = st.columns(3)
        windows = number(one, "Short windows", 2, 64, "diagnosis windows")
        tails = sorted({1e-2, 1e-3, 1e-4, spec.eps}, reverse=True)
        eps = menu(two, "Share of values taken as the tail, ε", tails, "eps", format_func="{:g}".format)
        law = menu(three, "Weighting of distances", list(get_args(DistanceLaw)), "law")
        rule = menu(one, "Outlier rule", rules, "outlier rule asked", help=term_help("Outlier"))
        limit = number(
            two,
            PARAMETER_LABELS[rule],
            0.0,
            1.0 if rule == "percentile" else 100.0,
            f"outlier parameter asked {rule}",
        )
        draws = number(
            three,
            "Repeats of each null",
            1,
            64,
            "null draws",
            help="How often each diagnostic is repeated on data without the effect (its null): more "
            "repeats give a range. Titles that answer yes or no have 19 or more.",
        )
        paired = switch(st, "Paired: the same tokens in the long and the short context", "paired")
        cost = switch(st, "Also measure what rounding each band alone costs: two backward passes", "band cost")
    return build_or_keep(
        lambda: replace(
            spec,
            windows=int(windows),
            eps=eps,
            law=law,
            paired=paired,
            outlier_rule=rule,
            outlier_parameter=limit,
            null_draws=int(draws),
            band_cost=cost,
        ),
        spec,
    )
