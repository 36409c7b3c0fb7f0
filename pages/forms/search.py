"""What the search for scales looks for, and how; the button that starts it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, get_args

import streamlit as st

from pages import jobs
from pages.forms.build_spec import counted, made
from pages.state.clicks import pressed
from pages.state.foreign_runs import source_of
from pages.state.widget_state import fill, menu, number
from pages.views.glossary import term_help
from pages.views.job_progress import running
from qroar_core.escape import literal
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search.registry import methods, objectives, reads, require_angles, takes_angles
from qroar_core.setting import Setting
from qroar_core.specs import Granularity, Mode, SearchSpec
from qroar_core.specs.labels import GRANULARITY_WORDS

MODE_WORDS = {"symmetric": "symmetric: q · g, k / g", "shared": "shared: q · g, k · g (changes the logits' size)"}
ANGLES_HELP = (
    "One angle per RoPE pair beside one scale per band. Turns of a plane commute with RoPE's, so nothing changes in "
    "full precision and at run time, but the values suit the quantizer better. It needs an unquantized checkpoint."
)
NORMED = "This model normalises q and k before RoPE; the norm's gain can take scales, not angles."
ONLY_GRADIENTS = "Angles are searched by gradients only: choose that method, and an objective other than full."


MAPS_HELP = (
    "A matrix for each group of channels that turn alike: tied pairs, and channels past the rotated ones. It commutes "
    "with RoPE, so nothing changes at run time, and it spreads large values over the group. It needs angles."
)
VALUE_MAPS_HELP = (
    "A matrix for V of each KV head, folded into W_V, and its inverse into W_O. V carries no RoPE: no output "
    "changes, nothing is done at run time, and a quantized V cache loses less."
)
HELP = {  # of the options that not every search reads
    "steps": "How often gradients move the scales.",
    "sweeps": "How often all bands are gone through.",
    "grid_points": "Scales that are tried for a band, from one bound to the other.",
    "trials": "How many candidates are measured at most.",
    "polish_steps": "Each step reads one window forward and backward.",
}


def _unless_read(spec: SearchSpec, field: str) -> dict[str, Any]:
    """Of a number that not every search reads: its help, and why it is disabled where it is."""
    if reads(spec, field):
        return {"disabled": False, "help": HELP[field]}
    able = [f"the method {name}" for name, one in methods().items() if field in one.reads]
    able += [f"the objective {name}" for name, one in objectives().items() if field in one.reads]
    now = f"the method {spec.method} with the objective {spec.objective} does not read it"
    return {"disabled": True, "help": f"{HELP[field]} Disabled: {now}; {' or '.join(able)} would."}


def search_form(spec: SearchSpec, norms: bool = False, no_maps: str = "", no_value_maps: str = "") -> SearchSpec:
    """What is searched and how.

    Args:
        norms: the model normalises q and k before RoPE, so that no pair can be turned.
        no_maps: why there can be no map, as no channels turn alike or the layout takes none; empty: there can.
        no_value_maps: why there can be no map of V; empty: there can.
    """
    fill(
        "search",
        spec,
        {
            "mode": spec.mode,
            "granularity": spec.granularity,
            "angles": spec.angles,
            "maps": spec.maps,
            "value_maps": spec.value_maps,
            "method": spec.method,
            "goal": spec.objective,
            "search windows": spec.windows,
            "max_log2_scale": spec.max_log2_scale,
            "steps": spec.steps,
            "sweeps": spec.sweeps,
            "grid": spec.grid_points,
            "trials": spec.trials,
            "polish": spec.polish_steps,
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
    free = takes_angles(st.session_state["method"], st.session_state["goal"])  # chosen below
    angles = st.toggle(
        "Also search pair angles",
        st.session_state["angles"],
        key="angles",
        disabled=norms or not free,
        help=NORMED if norms else ANGLES_HELP if free else ONLY_GRADIENTS,
    )
    why = no_maps or ("" if angles else "without pair angles there are no maps; switch on “Also search pair angles”")
    maps = st.toggle(
        "Also mix channels that turn alike",
        st.session_state["maps"],
        key="maps",
        disabled=bool(no_maps) or not angles,
        help=f"{MAPS_HELP} Disabled: {literal(why)}." if why else MAPS_HELP,
    )
    value_maps = st.toggle(
        "Also mix V's channels",
        st.session_state["value_maps"],
        key="value_maps",
        disabled=bool(no_value_maps),
        help=f"{VALUE_MAPS_HELP} Disabled: {literal(no_value_maps)}." if no_value_maps else VALUE_MAPS_HELP,
    )
    with st.expander("Options"):
        three, four = st.columns([1, 2])
        five, six, seven = st.columns(3)
        method = menu(three, "Method", list(methods()), "method")
        goal = menu(four, "Objective", list(objectives()), "goal", format_func=lambda name: objectives()[name].label)
        unless_read = partial(_unless_read, replace(spec, method=method, objective=goal))
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
            "polish",
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
            angles=angles,
            maps=maps and angles and not no_maps,
            value_maps=value_maps and not no_value_maps,
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
        )
        require_angles(asked)
        return asked

    return made(build, spec)


def search_button(loaded: LoadedModel, setting: Setting, acts: bool) -> None:
    """Start the search; greyed once it is done here. `acts`: scales can act under this setting."""
    key = jobs.search.key(loaded, setting)
    done = jobs.search.result(loaded, setting) is not None and source_of(key) is None
    if click := pressed(
        "Start the search",
        type="primary" if acts else "secondary",
        disabled=done or running(key),
        icon=":material/play_arrow:",
        help="Searched already: another setting or other bounds make another search." if done else None,
    ):
        jobs.search.start(loaded, setting)
        click.over()
