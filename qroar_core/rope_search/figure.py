"""What was tried in each condition, what the choices gain on held-out text, and how they turn each pair."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BLUE, COLOURS, GREEN, GREY, ORANGE, Picture, framed
from qroar_core.interpolations.registry import label_of, stretching
from qroar_core.number_of import number_of
from qroar_core.result import exp
from qroar_core.rope_search.findings import DECIDED, NONE
from qroar_core.rope_search.result import CHOICES, Choice, RopeSearch, RopeStudy
from qroar_core.specs.labels import capital, rope_words

CONDITIONS = {False: "in full precision", True: "under the quantizer"}
NAMES: dict[Choice, str] = {
    "setting": "the setup's own",
    "full precision": "chosen in full precision",
    "quantizer": "chosen under the quantizer",
}
HOW = {
    "setting": "the setup's own",
    "published": "at its published numbers",
    "nearest": "nearest to the setup's frequencies",
    "proposed": "proposed",
    "exchanged": "best of the other study",
}
LINES: dict[Choice, str] = {"setting": GREY, "full precision": ORANGE, "quantizer": BLUE}
OUTLYING = 4.0  # interquartile ranges above the median from which a candidate does not stretch the axis


def tried(result: RopeSearch) -> list[Picture]:
    """Development NLL of every candidate by method, one figure a condition."""
    return [_tried(result, study) for study in result.studies]


def _tried(result: RopeSearch, study: RopeStudy) -> Picture:
    table = pd.DataFrame(
        [
            (i, label_of(one.spec.method), rope_words(one.spec), HOW[one.how], one.nll)
            for i, one in enumerate(study.trials)
        ],
        columns=["trial", "method", "interpolation", "how", "nll"],
    )
    finite = table[table["nll"].map(math.isfinite)]
    figure = go.Figure()
    for colour, label in zip(COLOURS, [method.label for method in stretching().values()], strict=False):
        rows = finite[finite["method"] == label]
        if len(rows):
            figure.add_scatter(
                x=rows["trial"],
                y=rows["nll"],
                mode="markers",
                name=label,
                text=rows["interpolation"] + ", " + rows["how"],
                marker={"color": colour, "size": 9},
                hovertemplate="%{text}<br>trial %{x}: %{y:.4f} nats<extra></extra>",
            )
    figure.add_scatter(
        x=finite["trial"],
        y=finite["nll"].cummin(),
        mode="lines",
        name="best so far",
        line={"color": GREY, "shape": "hv"},
        hovertemplate="best until trial %{x}: %{y:.4f} nats<extra></extra>",
    )
    framed(figure, "trial", "NLL on development text, nats per token")
    low, high = float(finite["nll"].min()), _top(finite["nll"])
    figure.update_yaxes(range=[low - 0.05 * (high - low), high])
    hidden = int((table["nll"] > high).sum())
    beyond = f" {hidden} with more than {high:.2f} nats are in the table only." if hidden else ""
    best = study.best
    return Picture(
        f"{capital(CONDITIONS[study.quantized])} {rope_words(best.spec)} has the least NLL of "
        f"{number_of(len(table), 'candidate')}",
        figure,
        table,
        "A dot is one interpolation on the development windows, lower is better; the first ones are the known "
        f"interpolations, the last ones the best of the other condition.{beyond}",
        f"Chosen on development text at {result.length:,} tokens, seed {result.spec.get('seed', 0)}.",
    )


def _top(values: pd.Series) -> float:
    """Upper end of the axis: far worse candidates leave it."""
    middle, spread = float(values.median()), float(values.quantile(0.75) - values.quantile(0.25))
    most = float(values.max())
    return max(min(most, middle + OUTLYING * spread), middle + 1e-3) + 1e-3


def gains(result: RopeSearch) -> Picture:
    """Both choices in both conditions against the setting's own, with intervals."""
    rows = [
        (NAMES[one.choice], CONDITIONS[one.quantized], one.gain.mean, one.gain.low, one.gain.high)
        for one in result.judged
        if one.gain is not None
    ]
    table = pd.DataFrame(rows, columns=["choice", "condition", "gain", "ci_low", "ci_high"])
    figure = go.Figure()
    for quantized, colour in ((False, GREEN), (True, BLUE)):
        mine = table[table["condition"] == CONDITIONS[quantized]]
        figure.add_bar(
            x=mine["choice"],
            y=mine["gain"],
            name=CONDITIONS[quantized],
            marker={"color": colour},
            error_y={
                "type": "data",
                "color": GREY,
                "symmetric": False,
                "array": mine["ci_high"] - mine["gain"],
                "arrayminus": mine["gain"] - mine["ci_low"],
            },
            hovertemplate="%{x}, measured " + CONDITIONS[quantized] + ": %{y:.4f} nats<extra></extra>",
        )
    framed(figure, "", "gain over the setup's own interpolation, nats per token")
    worth, same = result.worth, result.interpolation("quantizer").spec == result.interpolation("setting").spec
    found = f"is worth {worth.mean:+.4f} nats there" if worth.excludes_zero else f"makes {NONE} there"
    return Picture(
        f"Choosing the interpolation under the quantizer {found}",
        figure,
        table,
        "A bar above 0 means a lower NLL than under the setup's own interpolation in the same condition; whiskers "
        f"are {result.confidence:.0%} intervals, paired over windows. What choosing under the quantizer is "
        f"worth is the difference of the two bars there, whose own interval the verdict gives."
        f"{'' if same else f' {DECIDED}'}",
        f"On {result.measured_on}.",
    )


def frequencies(result: RopeSearch) -> Picture:
    """How fast each pair turns under the choices, against the setting's own interpolation."""
    setting = result.interpolation("setting")
    own = setting.inv_freq
    pairs = list(range(len(own)))
    table = pd.DataFrame({"pair": pairs, "native_inv_freq": result.native_inv_freq})
    figure = go.Figure()
    for choice in CHOICES:
        found = result.interpolation(choice)
        table[f"inv_freq_{choice.replace(' ', '_')}"] = found.inv_freq
        ratio = [mine / base if base else math.nan for mine, base in zip(found.inv_freq, own, strict=True)]
        figure.add_scatter(
            x=pairs,
            y=ratio,
            mode="lines+markers",
            name=f"{NAMES[choice]}: {rope_words(found.spec)}",
            line={"color": LINES[choice], "dash": "dot" if choice == "setting" else "solid"},
            marker={"size": 6, "symbol": "diamond" if choice == "full precision" else "circle"},
            hovertemplate="pair %{x}: %{y:.4f} of the setup's frequency<extra></extra>",
        )
    framed(figure, "RoPE pair, fast to slow", "frequency over the setup's own")
    full, under = result.interpolation("full precision"), result.interpolation("quantizer")
    same = full.inv_freq == under.inv_freq
    return Picture(
        "Both choices turn every pair alike" if same else "The two choices turn the RoPE pairs at different speeds",
        figure,
        table,
        "1 is the frequency under the setup's own interpolation; above 1 a pair turns faster, at 0 it stands still. "
        f"The attention factor on cos and sin is {setting.attention_factor:.3f} of the setup, "
        f"{full.attention_factor:.3f} and {under.attention_factor:.3f} of the choices.",
        "Computed from frequencies alone: no text was read.",
    )


def table(result: RopeSearch) -> pd.DataFrame:
    """The setting's own interpolation and both choices, each in both conditions and at both lengths."""
    return pd.DataFrame(
        [
            {
                "interpolation": NAMES[one.choice],
                "numbers": rope_words(result.interpolation(one.choice).spec),
                "measured": CONDITIONS[one.quantized],
                "nll": one.nll,
                "ppl": exp(one.nll),
                "gain": one.gain.mean if one.gain else None,
                "ci_low": one.gain.low if one.gain else None,
                "ci_high": one.gain.high if one.gain else None,
                "short_nll": one.short_nll,
                "short_cost": one.short_cost.mean if one.short_cost else None,
                "short_ci_low": one.short_cost.low if one.short_cost else None,
                "short_ci_high": one.short_cost.high if one.short_cost else None,
            }
            for one in result.judged
        ]
    )
