"""What the search for scales looks for, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, get_args

import streamlit as st

from pages.forms.build_spec import build_or_keep, counted
from pages.state.widget_state import fill, menu, number
from pages.views.glossary import term_help
from qroar_core.escape import literal
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.scale_search.objective import FIRST
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.scale_search.search_objectives import has_gradient, objectives, reads, require_gradient
from qroar_core.specs import Granularity, Mode, SearchSpec
from qroar_core.specs.labels import GRANULARITY_WORDS
from qroar_core.transforms.registry import kinds, switches

MODE_WORDS = {"symmetric": "symmetric: q · g, k / g", "shared": "shared: q · g, k · g (changes the logits' size)"}
NO_REASON: Mapping[str, str] = MappingProxyType({})
HELP = {  # of the options that not every search reads
    "steps": "How often gradients move the scales.",
    "sweeps": "How many times the search goes through all bands.",
    "grid_points": "Scales that are tried for a band, from one bound to the other.",
    "trials": "How many candidates are measured at most.",
    "polish_steps": "Each step reads one window forward and backward.",
}

TOGGLE = {name: switch.toggle for name, switch in switches().items()}
TOGGLE_HELP = {name: switch.help for name, switch in switches().items()}


def _unless_read(spec: SearchSpec, field: str) -> dict[str, Any]:
    """Of a number that not every search reads: its help, and why it is disabled where it is."""
    if reads(spec, field):
        return {"disabled": False, "help": HELP[field]}
    able = [f"the method {name}" for name, one in search_methods().items() if field in one.reads]
    able += [f"the objective {name}" for name, one in objectives().items() if field in one.reads]
    now = f"the method {spec.method} with the objective {spec.objective} does not read it"
    return {"disabled": True, "help": f"{HELP[field]} Disabled: {now}; {' or '.join(able)} would read it."}


def _kinds(why_not: Mapping[str, str]) -> list[str]:
    """A toggle for each kind of transform beside band scales; the kinds that are on.

    One that the model cannot take, or that lacks a kind it needs, is off; where the method or the objective below
    cannot search it, it stays on, and `search_form` says so.
    """
    gradient = has_gradient(st.session_state["method"], st.session_state["goal"])  # chosen below
    on: list[str] = []
    for name, switch in switches().items():
        why = why_not.get(name, "") or _lacking(name, on)
        if not why and switch.by_gradient and not gradient:
            why = "searched by gradients only: choose that method, and an objective other than full"
        if not why and switch.cached_only and st.session_state["goal"] != FIRST:
            why = f"searched under the objective {objectives()[FIRST].label} alone"
        said = f"{TOGGLE_HELP[name]} Disabled: {literal(why)}." if why else TOGGLE_HELP[name]
        value = st.toggle(TOGGLE[name], st.session_state[name], key=name, disabled=bool(why), help=said)
        if value and name not in why_not and not _lacking(name, on):
            on.append(name)
    return on


def _lacking(name: str, on: Collection[str]) -> str:
    """Which kind it needs that is off; empty where it lacks none."""
    for need in switches()[name].needs:
        if need not in on:
            without = f"without {kinds()[need].label} there are no {kinds()[name].label}"
            return f"{without}; switch on “{switches()[need].toggle}”"
    return ""


def search_form(spec: SearchSpec, why_not: Mapping[str, str] = NO_REASON) -> SearchSpec:
    """What is searched and how.

    Args:
        why_not: kinds of transform that the model cannot take under this setting, and why.
    """
    fill(
        "search",
        spec,
        {
            "mode": spec.mode,
            "granularity": spec.granularity,
            **{name: name in spec.kinds for name in switches()},
            "method": spec.method,
            "goal": spec.objective,
            "search windows": spec.windows,
            "max_log2_scale": spec.max_log2_scale,
            "steps": spec.steps,
            "sweeps": spec.sweeps,
            "grid": spec.grid_points,
            "trials": spec.trials,
            "polish_steps": spec.polish_steps,
            "l2_penalty": spec.l2_penalty,
            "error_metric": spec.error_metric,
        },
    )
    one, two = st.columns(2)
    modes, grains = list(get_args(Mode)), list(get_args(Granularity))
    mode = menu(one, "Mode", modes, "mode", format_func=MODE_WORDS.__getitem__, help=term_help("Mode"))
    grain = menu(
        two,
        "Scale granularity",
        grains,
        "granularity",
        format_func=GRANULARITY_WORDS.__getitem__,
        help=term_help("Granularity"),
    )
    on = _kinds(why_not)
    with st.expander("Options"):
        three, four = st.columns([1, 2])
        five, six, seven = st.columns(3)
        method = menu(three, "Method", list(search_methods()), "method")
        goal = menu(four, "Objective", list(objectives()), "goal", format_func=lambda name: objectives()[name].label)
        unless_read = partial(_unless_read, replace(spec.of_kinds(()), method=method, objective=goal))
        windows = number(five, "Windows of text", 1, 64, "search windows")
        largest = number(six, "Largest |log2 g|", 0.0, 8.0, "max_log2_scale", step=0.5, help=term_help("Bounds"))
        steps = number(seven, "Gradient steps", 1, 1000, "steps", **unless_read("steps"))
        sweeps = number(five, "Sweeps", 1, 10, "sweeps", **unless_read("sweeps"))
        points = number(six, "Grid points", 3, 65, "grid", step=2, **unless_read("grid_points"))
        trials = number(seven, "Trials", 1, 2000, "trials", **unless_read("trials"))
        eight, nine, ten = st.columns([1, 1, 2])
        polish = number(
            eight,
            "Refinement steps",
            1,
            1000,
            "polish_steps",
            **unless_read("polish_steps"),
        )
        l2_penalty = number(
            nine,
            "Regularisation towards 1",
            0.0,
            1.0,
            "l2_penalty",
            step=0.01,
            help="Penalty for scales far from 1: what scales at all their bounds add, as a share "
            "of the error without scales. Bands the interpolation moves more pay more.",
        )
        error_metric = menu(
            ten,
            "Attention error metric",
            list(error_metrics()),
            "error_metric",
            format_func=lambda name: f"{name}: {error_metrics()[name].label}",
            help=term_help("Attention error metric"),
        )

    def build() -> SearchSpec:
        asked = replace(
            spec,
            mode=mode,
            granularity=grain,
            method=method,
            objective=goal,
            error_metric=error_metric,
            **counted(spec, windows),
            max_log2_scale=largest,
            steps=int(steps),
            sweeps=int(sweeps),
            grid_points=int(points),
            polish_steps=int(polish),
            trials=int(trials),
            l2_penalty=l2_penalty,
        ).of_kinds(on)
        require_gradient(asked)
        return asked

    return build_or_keep(build, spec)
