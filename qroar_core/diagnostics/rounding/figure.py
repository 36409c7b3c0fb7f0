"""How much longer or shorter quantized vectors are, and how far their coordinates move."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.rounding.result import LayerHead, RoundedTensor, mean
from qroar_core.diagnostics.sample import PROPAGATED
from qroar_core.figures.by_group import Draw
from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, counted_on, framed
from qroar_core.result import PerBand
from qroar_core.specs.labels import capital

LEAST = 1e-4  # a smaller share that is not 0 would print as 0.00%
NULL = "null: errors at random angles"


def lengths(diagnosis: Diagnosis) -> Picture | None:
    """Length of K's (and q's) quantized vectors against the exact ones, by layer. None when nothing rounds them."""
    seen = diagnosis.rounding
    if seen is None:
        return None
    figure, names = go.Figure(), diagnosis.layer_names()
    for (name, tensor), symbol in zip(seen.tensors().items(), ("circle", "diamond-open")):
        for what, values, null, power, colour in (
            ("mean", tensor.norm_mean, tensor.null_norm_mean, 1, BLUE),
            ("RMS", tensor.norm_rms, tensor.null_norm_rms, 2, ORANGE),
        ):
            figure.add_scatter(
                x=names,
                y=_by_layer(values, power),
                mode="lines+markers",
                name=f"{name}, {what}",
                marker={"symbol": symbol},
                line={"color": colour},
            )
            figure.add_scatter(
                x=names,
                y=_by_layer(null, power),
                mode="lines",
                name=f"{NULL} ({name}, {what})",
                line={"color": GREY, "dash": "dot" if what == "mean" else "dash"},
            )
    framed(figure, "layer", "length after over before, minus 1")
    how = (
        "Length of a head's whole vector after RoPE, quantized over exact, minus 1, of all KV heads and all tokens "
        "that are counted below. The null turns each pair's error to a random angle, which lengthens vectors a little."
    )
    if seen.q is not None and seen.q_rows is not None:
        how += f" Lengths and differences of q are of the {seen.q_rows:,} sampled query rows, not of all tokens."
    for name, tensor in seen.tensors().items():
        how += _ends(name, tensor, diagnosis)
    how += (
        " The table adds the differences of single coordinates: largest, root mean square, 0.99 quantile over the "
        "value itself (1: it became zero; within 0.1 %), and largest over the vector's largest. These differences have "
        "no null: at a random angle a pair's error is as large by construction, and without a quantizer it is 0."
    )
    return Picture(_title(seen.k), figure, _table(diagnosis), how, counted_on(seen.sample))


def _title(k: RoundedTensor) -> str:
    found, null = mean(k.norm_mean), mean(k.null_norm_mean)
    if found is None:
        return "Are quantized vectors as long as the exact ones? Nothing was measured"
    word = "longer" if found > 0 else "shorter"
    beside = "" if null is None else f"; at random angles {100 * null:+.2f}%"
    size = "as long as the exact ones" if abs(found) < 5e-5 else f"{100 * abs(found):.2f}% {word}"
    return f"Quantized K vectors are {size} on average ({100 * found:+.2f}%{beside})"


def _ends(name: str, tensor: RoundedTensor, diagnosis: Diagnosis) -> str:
    """Shares at the grid's ends and where they are greatest; nothing where no quantizer rounds this tensor itself."""
    parts = []
    for values, what, none in (
        (tensor.clipped, "of {}'s values lie beyond the grid's end", "No value of {} lies beyond the grid's end"),
        (tensor.zeroed, "of {}'s values that are not zero become zero", "No value of {} that is not zero becomes zero"),
    ):
        share = mean(values)
        if share is None:
            continue
        if share == 0:
            parts.append(none.format(name))
            continue
        by_head = [(v, i, j) for i, row in enumerate(values) for j, v in enumerate(row) if v is not None]
        greatest, layer, head = max(by_head)
        where = f"most in layer {diagnosis.layer_number(layer)}, KV head {head} ({_percent(greatest)})"
        found = f"{_percent(share)} {what.format(name)}, {where}"
        parts.append(capital(found))
    seen = diagnosis.rounding
    if not parts and seen is not None and seen.sample is not None:
        parts.append(f"No quantizer rounds {name} itself here, so there are no shares of its values at the grid's ends")
        return f" {parts[0]}."
    if parts and seen is not None and seen.sample is not None and seen.sample.compares == PROPAGATED:
        every = " at all tokens," * (name == "q" and seen.q_rows is not None)
        parts.append(
            f"These shares are of {name} as the quantizer is given it,{every} behind the errors of earlier layers"
        )
    if parts:  # a random angle would not do: what is given to the grid decides, not its error
        parts.append("Shares have no null but 0: they depend on the grid itself, and without one no value changes")
    return "".join(f" {part}." for part in parts)


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= LEAST else f"under {LEAST:.2%}"


def _by_layer(values: LayerHead, power: int) -> PerBand:
    return [mean([row], power) for row in values]


def _table(diagnosis: Diagnosis) -> pd.DataFrame:
    """A row for each KV head of a layer, then one for each band and for the channels without rotation."""
    rows = []
    seen = diagnosis.rounding
    assert seen is not None
    every = None if seen.sample is None else seen.sample.tokens
    for name, tensor in seen.tensors().items():
        tokens = seen.q_rows if name == "q" and seen.q_rows is not None else every
        for i in range(len(tensor.rms)):
            layer = diagnosis.layer_number(i)
            for head in range(len(tensor.rms[i])):
                row = {"tensor": name, "layer": layer, "of": f"KV head {head}", "tokens": tokens}
                rows.append(row | {column: getattr(tensor, field)[i][head] for field, column in COLUMNS.items()})
            bands = list(zip(tensor.band_largest[i], tensor.band_rms[i], strict=True))
            parts = [(f"band {b}", *values) for b, values in enumerate(bands)]
            for of, largest, rms in [*parts, ("channels without rotation", tensor.rest_largest[i], tensor.rest_rms[i])]:
                if rms is not None:
                    row = {"tensor": name, "layer": layer, "of": of, "tokens": tokens}
                    row |= {"largest_difference": largest, "rms": rms}
                    rows.append({**dict.fromkeys(COLUMNS.values()), **row})
    return pd.DataFrame(rows, columns=["tensor", "layer", "of", "tokens", *COLUMNS.values()])


COLUMNS = {
    "largest": "largest_difference",
    "rms": "rms",
    "relative_to_value": "over_value_q99",
    "relative_to_vector": "largest_over_vector",
    "norm_mean": "length_mean",
    "norm_rms": "length_rms",
    "null_norm_mean": "null_length_mean",
    "null_norm_rms": "null_length_rms",
    "clipped": "clipped_share",
    "zeroed": "zeroed_share",
}


FIGURES: dict[str, Draw] = {"rounding": lambda diagnosis: [lengths(diagnosis)]}
