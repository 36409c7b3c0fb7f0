"""One row a band with every diagnostic of it: the table that the page, the report, the CSV and Python show.

A number here is pooled over the layers that turn alike and over KV heads, as its column's description says; what a
diagnosis does not hold stays empty. Nothing is computed that the diagnosis does not keep.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from qroar_core.result import LayerBand, Number, Result, Unbounded, rounded

if TYPE_CHECKING:
    from qroar_core.diagnostics.bands.result import Band, Pairs
    from qroar_core.diagnostics.pair_error.result import PairErrors
    from qroar_core.diagnostics.result import Diagnosis
    from qroar_core.evidence.prediction.result import Prediction

ALL_LAYERS = "all layers"
SIDES = {"w": "pre", "a": "post"}  # the papers' rho_W is before RoPE, rho_A after it, on the quantizer's axes


def _column(title: str, text: str) -> Any:
    return Field(default=None, title=title, description=text)


_RHO = (
    "Long over short quantile of |{x}| of the unquantized model {where}; mean over layers and KV heads. 1: no "
    "further at long context."
)
_MOST = "The same, largest over layers and KV heads: a maximum over many cells lies above 1 by chance alone."
_NATIVE = "Of plain RoPE, without any interpolation, also without one that the checkpoint ships with."
_IN_FORCE = "Under the interpolation in force; without one, as the checkpoint ships."
_BEFORE, _AFTER = "before RoPE", "after RoPE, on the quantizer's axes"
_OUTLIERS = "Outlier channels of {x} of the unquantized model after RoPE in the band, summed over layers and heads."
_SIZE = "Mean |{x}| of the largest outlier channel of the band over its head's median channel; largest over layers."
_ALONE = "K of the unquantized model rounded per token and KV head, symmetric, and all but this band put back; "
_ERRORS = (
    " With quantized weights the errors include those of earlier layers, and keys that the cache still holds exactly "
    "count too; otherwise each layer is measured alone, by the keys that are rounded."
)
_ROWS = "at the sampled query rows, each layer measured alone"


class BandRow(Result):
    """One band of the layers that turn alike, or the channels that carry no rotation. None: not measured, or not
    defined there."""

    layers: str = Field(title="layers", description="Layers with the same frequencies, pooled in this row.")
    band: int | None = _column("band", "Number of the band, fast to slow; empty: the channels without rotation.")
    first_pair: int | None = _column("first pair", "RoPE pairs of the band.")
    last_pair: int | None = _column("last pair", "RoPE pairs of the band.")
    native_wavelength_min_tokens: Number = _column("native wavelength from, tokens", _NATIVE)
    native_wavelength_max_tokens: Number = _column("native wavelength to, tokens", _NATIVE)
    wavelength_min_tokens: Unbounded | None = _column("wavelength from, tokens", _IN_FORCE)
    wavelength_max_tokens: Unbounded | None = _column("wavelength to, tokens", f"{_IN_FORCE} ∞: pairs stand still.")
    turns: Number = _column("native turns", "Full turns per native window at the native wavelength, mean over pairs.")
    pressure_rad: Number = _column(
        "pressure, rad", "How far the angles move if the stretch grows 2.7 times, mean over pairs."
    )
    phase_displacement_rad: Number = _column(
        "phase displacement, rad",
        "How far angles are from those at the native wavelength, mean over distances and pairs.",
    )
    unseen_phase: Number = _column("unseen phase", "Share of phases at this length that training never saw.")
    side_peak: Number = _column("side peak", "Highest side peak of the band kernel, 1 at distance 0; empty: none.")
    logit_pressure_nats: Number = _column(
        "logit pressure, nats",
        "How far this band moves the logits if the stretch grows 2.7 times, under the distance law of the diagnosis.",
    )
    logit_pressure_error_nats: Number = _column(
        "standard error of logit pressure, nats", "Over the sampled query rows."
    )
    logit_pressure_bound_nats: Number = _column(
        "bound on logit pressure, nats",
        "Sum of the mean absolute parts of the band's pairs: it moves the logits no further.",
    )
    rho_w_q: Number = _column("ρ_W q", _RHO.format(x="q", where=_BEFORE))
    rho_w_k: Number = _column("ρ_W k", _RHO.format(x="k", where=_BEFORE))
    rho_a_q: Number = _column("ρ_A q", _RHO.format(x="q", where=_AFTER))
    rho_a_k: Number = _column("ρ_A k", _RHO.format(x="k", where=_AFTER))
    rho_w_q_most: Number = _column("ρ_W q, largest", _MOST)
    rho_w_k_most: Number = _column("ρ_W k, largest", _MOST)
    rho_a_q_most: Number = _column("ρ_A q, largest", _MOST)
    rho_a_k_most: Number = _column("ρ_A k, largest", _MOST)
    outliers_q: Number = _column("outliers q", _OUTLIERS.format(x="q"))
    outliers_k: Number = _column("outliers k", _OUTLIERS.format(x="k"))
    outlier_magnitude_q: Number = _column("outlier size q, × median channel", _SIZE.format(x="q"))
    outlier_magnitude_k: Number = _column("outlier size k, × median channel", _SIZE.format(x="k"))
    amplitude_error: Number = _column(
        "amplitude error", f"RMS of |z^|/|z| - 1 over pairs of K, layers and positions.{_ERRORS}"
    )
    phase_error_rad: Number = _column(
        "phase error, rad", f"RMS angle between a pair of K and its quantized self.{_ERRORS}"
    )
    zeroed_share: Number = _column(
        "pairs rounded to zero", f"Share of K's pairs that the quantizer in force turns to zero.{_ERRORS}"
    )
    error_share: Number = _column(
        "share of K's error",
        "Of K's squared error by the quantizer in force, mean over "
        "layers; with quantized weights, of the keys of the quantized model. An even spread gives each band its share "
        "of the channels. Empty: no quantizer rounds K.",
    )
    int8_error_share: Number = _column("int8: share of K's error", "The same by int8 per token and KV head.")
    int4_error_share: Number = _column("int4: share of K's error", "The same by int4 per token and KV head.")
    logit_noise_nats: Number = _column(
        "logit noise, nats",
        "RMS that the quantizer in force makes of this band on the "
        "attention logits, over layers and sampled query rows, keys that are read exactly included. With quantized "
        "weights it includes the errors of earlier layers; otherwise each layer is measured alone.",
    )
    int8_noise_nats: Number = _column("int8 alone: logit noise, nats", f"{_ALONE}RMS error of the logits {_ROWS}.")
    int4_noise_nats: Number = _column("int4 alone: logit noise, nats", f"{_ALONE}RMS error of the logits {_ROWS}.")
    int8_attention_kl_nats: Number = _column("int8 alone: attention KL, nats", f"{_ALONE}KL of the row {_ROWS}.")
    int4_attention_kl_nats: Number = _column("int4 alone: attention KL, nats", f"{_ALONE}KL of the row {_ROWS}.")
    int8_output_kl_nats: Number = _column(
        "int8 alone: output KL, nats per token",
        f"{_ALONE}KL of the next token, to second order, summed over layers. Empty: asked for by --band-cost.",
    )
    int4_output_kl_nats: Number = _column(
        "int4 alone: output KL, nats per token",
        f"{_ALONE}KL of the next token, to second order, summed over layers. Empty: asked for by --band-cost.",
    )
    nll_cost_nats: Number = _column(
        "cost alone, nats per token",
        "NLL on held-out text, this band alone rounded by "
        "the quantizer in force. Empty: no prediction was made in these bands.",
    )
    nll_cost_low_nats: Number = _column("cost from", "Interval of that cost, paired over windows.")
    nll_cost_high_nats: Number = _column("cost to", "Interval of that cost, paired over windows.")


def band_table(diagnosis: Diagnosis, prediction: Prediction | None = None) -> list[BandRow]:
    """Rows in order of layer groups and bands, the channels without rotation last.

    Args:
        prediction: what each band costs alone in NLL; used where it asked about these very bands.
    """
    every = range(len(diagnosis.dilation.absmax))
    if not diagnosis.groups:
        groups = [(ALL_LAYERS, list(every), diagnosis.bands, diagnosis.pairs, diagnosis.pair_error)]
    else:
        groups = [
            (group.name, group.layers, group.bands, group.pairs, group.pair_error)
            for group in diagnosis.groups
            if group.bands and group.pairs
        ]
    costs = _nll(diagnosis, prediction) if len(groups) == 1 else {}
    rows = [
        _row(diagnosis, name, layers, band, pairs, errors, costs)
        for name, layers, bands, pairs, errors in groups
        for band in bands
    ]
    rest = _unrotated(diagnosis, costs)
    return [*rows, *([rest] if rest else [])]


def _row(
    diagnosis: Diagnosis,
    name: str,
    layers: Sequence[int],
    band: Band,
    pairs: Pairs,
    errors: PairErrors | None,
    costs: dict,
) -> BandRow:
    b, here = band.index, slice(band.first_pair, band.last_pair + 1)
    native = [2 * math.pi / f for f in pairs.native_inv_freq[here]]
    noise = diagnosis.logit_noise
    count, size = (getattr(diagnosis.outliers, field, None) or {} for field in ("count", "magnitude"))
    return BandRow(
        layers=name,
        band=b,
        first_pair=band.first_pair,
        last_pair=band.last_pair,
        native_wavelength_min_tokens=min(native),
        native_wavelength_max_tokens=max(native),
        wavelength_min_tokens=band.wavelength_min,
        wavelength_max_tokens=band.wavelength_max,
        turns=band.turns,
        pressure_rad=band.interpolation_pressure,
        phase_displacement_rad=band.phase_displacement,
        unseen_phase=band.unseen_phase,
        side_peak=band.side_peak,
        logit_pressure_nats=getattr(band, "logit_change", None),
        logit_pressure_error_nats=getattr(band, "logit_change_error", None),
        logit_pressure_bound_nats=band.logit_weighted_pressure,
        **{
            f"rho_{side}_{x}{end}": pool(head[b] for i in layers for head in diagnosis.tails[f"{x}/{place}"].ratio[i])
            for side, place in SIDES.items()
            for x in ("q", "k")
            for end, pool in (("", _mean), ("_most", _most))
        },
        **{f"outliers_{x}": _sum(_at(count.get(f"{x}/post"), layers, b)) for x in ("q", "k")},
        **{f"outlier_magnitude_{x}": _most(_at(size.get(f"{x}/post"), layers, b)) for x in ("q", "k")},
        amplitude_error=errors.amplitude_by_band()[b] if errors else None,
        phase_error_rad=errors.phase_by_band()[b] if errors else None,
        zeroed_share=errors.zeroed_by_band()[b] if errors and errors.zeroed else None,
        error_share=_in_force(diagnosis, layers, _channels(diagnosis, band)),
        logit_noise_nats=_rms(_at(noise.by_band, layers, b)) if noise else None,
        **_alone(diagnosis, layers, b),
        **costs.get((band.first_pair, band.last_pair), {}),
    )


def _unrotated(diagnosis: Diagnosis, costs: dict) -> BandRow | None:
    """The channels that carry no rotation, and the layers where none does; None where there are none."""
    cost = diagnosis.band_cost
    if cost is None or all(v is None for layer in next(iter(cost.noise.values())) for v in layer[-1:]):
        return None
    layers = [i for i, layer in enumerate(next(iter(cost.noise.values()))) if layer[-1] is not None]
    partial = diagnosis.rotary_dim < diagnosis.head_dim
    name = ALL_LAYERS if partial else ", ".join(g.name for g in diagnosis.groups if not g.bands) or ALL_LAYERS
    noise = getattr(diagnosis.logit_noise, "unrotated", None) or None
    return BandRow(
        layers=name,
        error_share=_in_force(diagnosis, layers, range(diagnosis.rotary_dim if partial else 0, diagnosis.head_dim)),
        logit_noise_nats=_rms(noise[i] for i in layers) if noise else None,
        **_alone(diagnosis, layers, -1),
        **costs.get(None, {}),
    )


def _alone(diagnosis: Diagnosis, layers: Sequence[int], part: int) -> dict[str, Any]:
    """What `band_cost` says of one part, -1 the channels without rotation."""
    cost = diagnosis.band_cost
    if cost is None:
        return {}
    found: dict[str, Any] = {}
    for probe in cost.noise:
        found[f"{probe}_error_share"] = _mean(_at(cost.error_share[probe], layers, part))
        found[f"{probe}_noise_nats"] = _rms(_at(cost.noise[probe], layers, part))
        found[f"{probe}_attention_kl_nats"] = _mean(_at(cost.attention_kl[probe], layers, part))
        found[f"{probe}_output_kl_nats"] = _sum(_at((cost.output_kl or {}).get(probe), layers, part))
    return found


def _in_force(diagnosis: Diagnosis, layers: Sequence[int], channels: Iterable[int]) -> Number:
    """Share of K's error by the quantizer in force that lies in these channels; None in a file without it."""
    table = (getattr(diagnosis.outliers, "error_by_channel", None) or {}).get("in force")
    mine = list(channels)
    return _mean(_sum(table[layer][c] for c in mine) for layer in layers) if table else None


def _channels(diagnosis: Diagnosis, band: Band) -> list[int]:
    """Channels of a head that the band's pairs are made of."""
    half = diagnosis.rotary_dim // 2
    apart = diagnosis.pairing == "half"
    pairs = range(band.first_pair, band.last_pair + 1)
    return [c for i in pairs for c in ((i, i + half) if apart else (2 * i, 2 * i + 1))]


def _nll(diagnosis: Diagnosis, prediction: Prediction | None) -> dict[Any, dict[str, Number]]:
    """First and last pair (None: without rotation) -> the cost columns; empty where it asked about other bands."""
    bands = [(band.first_pair, band.last_pair) for band in diagnosis.bands]
    if prediction is None or [cost.pairs for cost in prediction.bands] != bands:
        return {}
    return {
        cost.pairs: {"nll_cost_nats": cost.nll, "nll_cost_low_nats": cost.low, "nll_cost_high_nats": cost.high}
        for cost in prediction.parts
    }


def to_csv(rows: Sequence[BandRow]) -> str:
    """The table as a CSV with one line a band; empty cells where a number is missing, inf where one is infinite."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(BandRow.model_fields)
    writer.writerows([[_cell(v) for v in row.model_dump().values()] for row in rows])
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value if value == math.inf else rounded(value)


def _at(table: LayerBand | None, layers: Iterable[int], part: int) -> list[Number]:
    return [] if not table else [table[layer][part] for layer in layers]


def _known(values: Iterable[Number]) -> list[float]:
    return [v for v in values if v is not None]


def _over(pool: Callable[[list[float]], float]) -> Callable[[Iterable[Number]], Number]:
    return lambda values: pool(known) if (known := _known(values)) else None


_mean = _over(lambda known: math.fsum(known) / len(known))
_rms = _over(lambda known: math.sqrt(math.fsum(v * v for v in known) / len(known)))
_most = _over(max)
_sum = _over(math.fsum)
