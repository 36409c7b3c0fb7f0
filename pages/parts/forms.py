"""Controls that make specs. Each returns a spec or, when the values cannot be, shows why and returns the old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, get_args

import streamlit as st

from pages.parts.boxes import refused
from pages.parts.follow import chosen, fill, menu, number, switch
from qroar_core.errors import QRoarError
from qroar_core.specs import (
    JUDGES,
    DiagnosisSpec,
    DistanceLaw,
    EvaluationSpec,
    Granularity,
    Mode,
    Objective,
    OutlierRule,
    SearchSpec,
)
from qroar_core.specs.outliers import parameter_in_force
from qroar_core.specs.words import COUNTED

T = TypeVar("T")
LENGTHS = [2**n for n in range(6, 18)]  # context lengths offered, tokens
METHODS = ("gradient", "coordinate", "optuna")
MODE_WORDS = {"symmetric": "symmetric: q · g, k / g", "shared": "shared: q · g, k · g (changes the logits' size)"}
GRANULARITY_WORDS = {"model": "one for the whole model", "layer": "per layer", "kv_head": "per layer and KV head"}
OBJECTIVE_WORDS = {"cached": "cached attention (fast)", "full": "full NLL (slow)",
                   "kl": "KL to the reference, by gradients (slow)"}  # fmt: skip
ANGLES_HELP = (
    "One angle per RoPE pair beside one scale per band. Turns of a plane commute with RoPE's, so nothing changes in "
    "full precision and at run time, but the values suit the quantizer better. It needs an unquantized checkpoint."
)
NORMED = "This model normalises q and k before RoPE; the norm's gain can take scales, not angles."
ONLY_GRADIENTS = "Angles are searched by gradients only: choose that method, and an objective other than full."
PARAMETER_OF = {"iqr": "Fence, interquartile ranges", "mad": "Modified z-score", "percentile": "Quantile"}
WINDOW_WORDS = {"full": "full: one window scores all targets of a text",
                "sliding": "sliding: move on, and score the last tokens of each window (slow)"}  # fmt: skip


def made(build: Callable[[], T], before: T) -> T:
    """`build()`, or `before` with the reason shown."""
    try:
        return build()
    except QRoarError as problem:
        refused(problem, ". The setting before stays in force.")
        return before


def counted(spec: Any, windows: float) -> dict[str, Any]:
    """The fields of a spec that say how many windows. A number that a person changed is refused if it is too many."""
    return {"windows": int(windows), "fewer": spec.fewer and int(windows) == spec.windows}


def diagnosis_form(spec: DiagnosisSpec) -> DiagnosisSpec:
    """Options of the diagnosis, apart from length and bands."""
    rules = list(get_args(OutlierRule))
    limits = {rule: spec.outlier_parameter if rule == spec.outlier_rule else None for rule in rules}
    fill("diagnosis", spec, {
        "diagnosis windows": spec.windows, "eps": spec.eps, "law": spec.law, "outlier rule asked": spec.outlier_rule,
        "null draws": spec.null_draws, "paired": spec.paired, "band cost": spec.band_cost,
        **{f"outlier parameter asked {rule}": parameter_in_force(rule, limit) for rule, limit in limits.items()},
    })  # fmt: skip
    with st.expander("Options"):
        one, two, three = st.columns(3)
        windows = number(one, "Short windows", 2, 64, "diagnosis windows")
        tails = sorted({1e-2, 1e-3, 1e-4, spec.eps}, reverse=True)
        eps = menu(two, "Share of values taken as the tail, ε", tails, "eps", format_func="{:g}".format)
        law = menu(three, "Weighting of distances", list(get_args(DistanceLaw)), "law")
        rule = menu(one, "Outlier rule", rules, "outlier rule asked")
        limit = number(two, PARAMETER_OF[rule], 0.0, 1.0 if rule == "percentile" else 100.0,
                       f"outlier parameter asked {rule}")  # fmt: skip
        draws = number(three, "Repeats of each null", 1, 64, "null draws",
                       help="How often each diagnostic is repeated on data without the effect (its null): more "
                            "repeats give a range.")
        paired = switch(st, "Paired: the same tokens in the long and the short context", "paired")
        cost = switch(st, "Also measure what rounding each band alone costs: two backward passes", "band cost")
    asked = made(lambda: replace(spec, windows=int(windows), eps=eps, law=law, paired=paired, outlier_rule=rule,
                                outlier_parameter=limit, null_draws=int(draws), band_cost=cost), spec)  # fmt: skip
    chosen("diagnosis", asked)
    return asked


def search_form(spec: SearchSpec, norms: bool = False) -> SearchSpec:
    """What is searched and how. `norms`: the model normalises q and k before RoPE, so that no pair can be turned."""
    fill("search", spec, {
        "mode": spec.mode, "granularity": spec.granularity, "angles": spec.angles, "method": spec.method,
        "goal": spec.objective, "search windows": spec.windows, "kappa0": spec.kappa0, "steps": spec.steps,
        "sweeps": spec.sweeps, "grid": spec.grid_points, "trials": spec.trials, "polish": spec.polish_steps,
        "shrink": spec.shrink, "judge": spec.judge,
    })  # fmt: skip
    one, two = st.columns(2)
    modes, grains, goals = (list(get_args(kind)) for kind in (Mode, Granularity, Objective))
    mode = menu(one, "Mode", modes, "mode", format_func=MODE_WORDS.get)
    grain = menu(two, "Scale granularity", grains, "granularity", format_func=GRANULARITY_WORDS.get)
    free = st.session_state["method"] == "gradient" and st.session_state["goal"] != "full"  # chosen below
    angles = st.toggle("Also search pair angles", st.session_state["angles"], key="angles", disabled=norms or not free,
                       help=NORMED if norms else ANGLES_HELP if free else ONLY_GRADIENTS)  # fmt: skip
    with st.expander("Options"):
        three, four = st.columns([1, 2])
        five, six, seven = st.columns(3)
        method = menu(three, "Method", METHODS, "method")
        goal = menu(four, "Objective", goals, "goal", format_func=OBJECTIVE_WORDS.get)
        windows = number(five, "Windows of text", 1, 64, "search windows")
        kappa = number(six, "Largest |log2 g|", 0.0, 8.0, "kappa0", step=0.5)
        steps = number(seven, "Gradient steps", 1, 1000, "steps", disabled=method != "gradient")
        sweeps = number(five, "Sweeps", 1, 10, "sweeps", disabled=method != "coordinate")
        points = number(six, "Grid points", 3, 65, "grid", step=2, disabled=method != "coordinate")
        trials = number(seven, "Trials", 1, 2000, "trials", disabled=method == "gradient")
        eight, nine, ten = st.columns([1, 1, 2])
        polish = number(eight, "Refinement steps", 1, 1000, "polish", disabled=goal != "kl",
                        help="For the kl objective: each step reads one window forward and backward.")  # fmt: skip
        shrink = number(nine, "Regularisation towards 1", 0.0, 1.0, "shrink", step=0.01,
                        help="Penalty for scales far from 1: what scales at all their bounds add, as a share "
                             "of the error without scales. Bands the interpolation moves more pay more.")  # fmt: skip
        judge = menu(ten, "Attention error metric", JUDGES, "judge",
                     format_func=lambda name: f"{name}: {COUNTED[name]}")  # fmt: skip
    asked = made(
        lambda: replace(spec, mode=mode, granularity=grain, angles=angles, method=method, objective=goal, judge=judge,
                        **counted(spec, windows), kappa0=kappa, steps=int(steps), sweeps=int(sweeps),
                        grid_points=int(points), polish_steps=int(polish), trials=int(trials), shrink=shrink),
        spec,
    )  # fmt: skip
    chosen("search", asked)
    return asked


def evaluation_form(spec: EvaluationSpec, longest: int, can_rotate: bool) -> EvaluationSpec:
    """Where the conditions are compared. `longest`: tokens of the longest length to offer."""
    asked = {"lengths": list(spec.lengths), "evaluation windows": spec.windows, "rotation scales": spec.rotation_scales,
             "window kind": "full" if spec.stride is None else "sliding",
             "stride": spec.stride or max(1, min(spec.lengths, default=2) // 2)}  # fmt: skip
    fill("evaluation", spec, asked)
    one, two = st.columns([3, 1])
    offered = sorted({*spec.lengths, *(n for n in LENGTHS if n <= longest)})
    lengths = one.multiselect("Context lengths, tokens", offered, key="lengths")
    windows = number(two, "Windows of text", 2, 256, "evaluation windows")
    three, four = st.columns([3, 1])
    kind = three.selectbox("Windows", list(WINDOW_WORDS), format_func=WINDOW_WORDS.get, key="window kind")
    stride = number(four, "Slide by, tokens", 1, LENGTHS[-1], "stride", disabled=kind == "full",
                    help="Each target sees at least the context length less this.")  # fmt: skip
    turned = st.checkbox(
        "Also search under the rotated quantizer (one more search)", key="rotation scales", disabled=not can_rotate,
        help="A Hadamard rotation of q and k is measured anyway; this adds what scales gain on top of it."
        if can_rotate else "A Hadamard rotation does not apply to this K quantizer, or it has one.",
    )  # fmt: skip
    if not lengths:
        st.warning("Choose at least one length; until then the earlier lengths stay.")
    asked_for = made(lambda: replace(spec, lengths=tuple(sorted(lengths)) or spec.lengths, **counted(spec, windows),
                                     stride=None if kind == "full" else int(stride),
                                     rotation_scales=turned and can_rotate), spec)  # fmt: skip
    chosen("evaluation", asked_for)
    return asked_for
