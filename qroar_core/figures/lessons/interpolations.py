"""Lesson 3: the frequencies under every position interpolation."""

from __future__ import annotations

import pandas as pd
from plotly.subplots import make_subplots

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Picture, framed
from qroar_core.interpolations.base import ROUNDING
from qroar_core.interpolations.registry import label_of
from qroar_core.lessons.result import Bend, Bends
from qroar_core.specs.labels import capital

STYLES = (  # a colour and a dash for every line beside the orange one, so that overlapping lines stay apart
    *((GREY, "solid"), (BLUE, "solid"), (SKY, "dot"), (RED, "solid"), (PINK, "dashdot"), (GREEN, "dash")),
    *((GREY, "dash"), (BLUE, "dash"), (SKY, "dashdot"), (RED, "dash"), (PINK, "dot"), (GREEN, "dot")),
)


@once
def bends(shown: Bends) -> Picture:
    """Frequency, and the share left of the native one, by pair; a line a method."""
    pairs = list(range(len(shown.native)))
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    figure.add_scatter(
        x=pairs,
        y=shown.native,
        mode="lines",
        name="no interpolation",
        line={"color": ORANGE, "width": 5},
        opacity=0.5,
        hovertemplate="pair %{x}: %{y:.3g} rad/token<extra>no interpolation</extra>",
        row=1,
        col=1,
    )
    for at, bend in enumerate(shown.methods):
        colour, dash = STYLES[at % len(STYLES)]
        label = f"{label_of(bend.method)}, a = {bend.attention_factor:.3g}"
        style = {"mode": "lines", "name": label, "legendgroup": bend.method, "line": {"color": colour, "dash": dash}}
        for column, y, unit in ((1, bend.inv_freq, "%{y:.3g} rad/token"), (2, bend.compression, "%{y:.4f} of ω")):
            figure.add_scatter(
                x=pairs,
                y=y,
                showlegend=column == 2,
                **style,
                row=1,
                col=column,
                hovertemplate=f"pair %{{x}}: {unit}<extra>{label_of(bend.method)}</extra>",
            )
    framed(figure, "RoPE pair, fast to slow", "", height=400)
    figure.update_layout(margin={"t": 90})
    figure.update_yaxes(title_text="frequency ω(s), rad/token", type="log", dtick=1, exponentformat="e", col=1)
    figure.update_yaxes(title_text="frequency left, ω(s) / ω", rangemode="tozero", col=2)
    return Picture(
        _finding(shown),
        figure,
        _table(shown),
        f"Every method at factor s = {shown.factor:g}, for a context of {shown.length:,} tokens. On the right 1 means "
        "a pair is left alone, 1/s that it is slowed in full; a is the attention factor on cos and sin. LongRoPE's "
        "list is an example that rises evenly from 1 to s; real lists come with a checkpoint."
        + (f" Pairs {shown.tied}: a group turns at the geometric mean of its pairs; still is 0." if shown.tied else ""),
    )


def _finding(shown: Bends) -> str:
    """What the numbers say; with tied pairs the same method may leave other pairs alone, or none."""
    changed = [len(b.compression) - untouched(b) for b in shown.methods]
    if not any(changed):
        return f"At factor {shown.factor:g} no method changes anything"
    tied = f"with pairs {shown.tied}, " if shown.tied else ""
    if shown.factor == 1:
        most = max(changed)
        return (
            f"At factor 1 no method changes anything, but the ties change {most} of {len(shown.native)} pair"
            f"{'s' * (len(shown.native) > 1)}"
        )
    alone = [b for b in shown.methods if fastest_untouched(b) > 1]
    if not alone:
        found = f"{tied}no method leaves the fastest pairs alone"
        return capital(found)
    said = f"{_listed([label_of(b.method) for b in alone])} leave{'s' * (len(alone) == 1)} the fastest pairs alone"
    linear = next((b for b in shown.methods if b.method == "linear"), None)
    if linear is None or max(linear.compression[: max(map(fastest_untouched, alone))]) > 1 - ROUNDING:
        return said
    return f"{said}; linear slows them {'too' if shown.tied else 'like all others'}"


def _listed(names: list[str]) -> str:
    """For example: YaRN, llama3 and LongRoPE."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def fastest_untouched(bend: Bend) -> int:
    """How many pairs, counted from the fastest, keep their native frequency before the first that does not."""
    return next((i for i, left in enumerate(bend.compression) if abs(left - 1) >= ROUNDING), len(bend.compression))


def untouched(bend: Bend) -> int:
    """Pairs whose frequency is the native one, up to float32."""
    return sum(abs(left - 1) < ROUNDING for left in bend.compression)


def _table(shown: Bends) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (label_of(b.method), b.attention_factor, i, *numbers)
            for b in shown.methods
            for i, numbers in enumerate(zip(shown.wavelength, shown.native, b.inv_freq, b.compression, strict=True))
        ],
        columns=["method", "attention_factor", "pair", "wavelength_tokens", "omega_native", "omega", "omega_left"],
    )


def summary(shown: Bends) -> pd.DataFrame:
    """One row a method: attention factor, pairs left alone, share left of the fastest and slowest frequency."""
    return pd.DataFrame(
        [
            (label_of(b.method), b.attention_factor, untouched(b), b.compression[0], b.compression[-1])
            for b in shown.methods
        ],
        columns=["method", "attention factor a(s)", "pairs left alone", "fastest pair, ω(s)/ω", "slowest pair, ω(s)/ω"],
    )
