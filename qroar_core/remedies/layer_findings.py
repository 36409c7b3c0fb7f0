"""A choice of layers on held-out text, from window means: beside no layer, the first and last, and all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qroar_core.models.geometry import Geometry
from qroar_core.remedies.layer_memory import ROUNDING, cache_bytes
from qroar_core.remedies.result_layers import JudgedRule, LayerChoice, Rule
from qroar_core.specs import QuantSpec
from qroar_core.specs.labels import NOTHING_QUANTIZED, capital, layers_words
from qroar_core.statistics.intervals import Interval, mean_interval, paired_interval


def judged(
    choice: LayerChoice, geometry: Geometry, quant: QuantSpec, window_nll: Mapping[Rule, list[float]]
) -> LayerChoice:
    """The choice with what each rule does on held-out text, and the findings.

    Args:
        window_nll: mean NLL of each held-out window by rule, `none` and `chosen` among them.
    """
    layers = layers_by_rule(choice, geometry)
    rows = [_row(choice, geometry, quant, rule, layers[rule], window_nll) for rule in layers if rule in window_nll]
    return choice.model_copy(update={"rules": rows, "sentences": _sentences(choice, window_nll)})


def layers_by_rule(choice: LayerChoice, geometry: Geometry) -> dict[Rule, list[int]]:
    """The layers that each rule keeps."""
    return {
        "none": [],
        "chosen": choice.kept,
        "first_last": choice.first_last,
        "all": geometry.decoder_numbers,
    }


def _row(
    choice: LayerChoice,
    geometry: Geometry,
    quant: QuantSpec,
    rule: Rule,
    kept: Sequence[int],
    window_nll: Mapping[Rule, list[float]],
) -> JudgedRule:
    mine, confidence = window_nll[rule], choice.confidence
    row = JudgedRule(
        rule=rule,
        layers=list(kept),
        bytes=cache_bytes(geometry, replace(quant, keep_layers=tuple(kept)), choice.length),
        nll=mean_interval(mine, confidence).mean,
        window_nll=mine,
    )
    found: dict[str, float] = {}
    if rule != "none":
        won = paired_interval(window_nll["none"], mine, confidence)
        found |= {"gain": won.mean, "gain_low": won.low, "gain_high": won.high}
    if "all" in window_nll and rule != "all":
        lost = paired_interval(mine, window_nll["all"], confidence)
        found |= {"lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high}
    return row.model_copy(update=found)


def _sentences(choice: LayerChoice, window_nll: Mapping[Rule, list[float]]) -> list[str]:
    """What keeping the chosen layers gains, and how that stands to the first and last layers."""
    confidence, none, chosen = choice.confidence, window_nll["none"], window_nll["chosen"]
    if not choice.kept:
        return [f"No layer is kept: {_why_none(choice)}"]
    won = paired_interval(none, chosen, confidence)
    every = len(choice.kept) == len(choice.layers)
    which = "every layer" if every else layers_words(choice.kept)
    what = f"Keeping {which} ({choice.bytes:,.0f} bytes a token)"
    said = [capital(NOTHING_QUANTIZED)] if every else []
    said += [
        f"{what} gains {_nats(won)} on held-out text"
        if won.above_zero
        else f"{what} gains nothing significant on held-out text ({_nats(won)})"
    ]
    if "all" in window_nll:
        whole = paired_interval(none, window_nll["all"], confidence)
        if whole.above_zero and not every:
            said[-1] += f", {won.mean / whole.mean:.0%} of what keeping every layer would"
    if "first_last" in window_nll and choice.first_last != choice.kept:
        apart = paired_interval(window_nll["first_last"], chosen, confidence)
        rule = _simple_rule(choice.first_last)
        if apart.above_zero:
            said.append(f"That is {_nats(apart)} more than {rule}")
        elif apart.below_zero:
            turned = Interval(-apart.mean, -apart.high, -apart.low, apart.se)
            said.append(f"That is {_nats(turned)} less than {rule}: take those")
        else:
            said.append(f"That is not significantly different from {rule} ({_nats(apart)})")
    elif "first_last" in window_nll:
        same = "is the same" if len(choice.kept) == 1 else "are the same layers"
        said.append(f"{capital(_simple_rule(choice.first_last))} {same}")
    return said


def _why_none(choice: LayerChoice) -> str:
    least = choice.curve[0].bytes
    if choice.least_more > choice.budget - least + ROUNDING:
        return (
            f"none fits into the budget of {choice.budget:,.0f} bytes a token; the quantized cache takes {least:,.0f}, "
            f"and a layer at least {choice.least_more:,.0f} more"
        )
    return "no layer that fits into the budget is worth anything on development text"


def _simple_rule(layers: Sequence[int]) -> str:
    if not layers:
        return "keeping none, as neither the first nor the last layer fits into the budget"
    which = "the first layer" if len(layers) == 1 else "the first and last layers"
    return f"{which} ({', '.join(map(str, layers))}) under the same budget"


def _nats(interval: Interval) -> str:
    return f"{interval.mean:+.4f} nats [{interval.low:+.4f}, {interval.high:+.4f}]"
