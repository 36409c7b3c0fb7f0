"""Do the diagnostics predict? Costs and a diagnosis in, ranks and sentences out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qroar_core.diagnostics.bands.result import Band
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.prediction.result import Cost, Rank, RankedDiagnostic, Sum
from qroar_core.result import LayerBand, PerBand
from qroar_core.statistics.correlation import Correlation, spearman, spearman_of_grid
from qroar_core.statistics.intervals import Interval, paired_interval

WHOLE, REFERENCE = "all together", "reference"
PRESSURE, LOGIT = "interpolation_pressure", "logit_change"
BASELINE_NAME = "k_absmax"  # the baseline to beat
FREQUENCY = {  # fields of a Band
    PRESSURE: ("interpolation pressure", "rad if the stretch grows 2.7 times"),
    "phase_displacement": ("phase displacement", "rad"),
}


@dataclass(frozen=True, slots=True)
class DiagnosticByBand:
    """One diagnostic before it met any cost."""

    name: str
    words: str
    unit: str
    layers: LayerBand  # [layer][band], None in layers that do not turn
    baseline: bool = False

    @property
    def bands(self) -> PerBand:
        """Mean over layers that turn."""
        columns = ([v for v in column if v is not None] for column in zip(*self.layers, strict=True))
        return [math.fsum(known) / len(known) if known else None for known in columns]


def measured(diagnosis: Diagnosis) -> list[DiagnosticByBand]:
    """The diagnostics of a diagnosis, by layer and band."""
    count = len(diagnosis.dilation.absmax)
    bands: list[list[Band] | None] = [diagnosis.bands] * count
    for group in diagnosis.groups:
        for layer in group.layers:
            bands[layer] = group.bands or None

    def turning(table: LayerBand) -> LayerBand:
        width = len(diagnosis.bands)
        return [row[:width] if here else [None] * width for row, here in zip(table, bands, strict=True)]

    found = [
        DiagnosticByBand(
            name,
            words,
            unit,
            [[getattr(b, name) for b in here or []] or [None] * len(diagnosis.bands) for here in bands],
        )
        for name, (words, unit) in FREQUENCY.items()
    ]
    if diagnosis.logit_change is not None:
        found.insert(
            1,
            DiagnosticByBand(
                LOGIT,
                "logit change by the interpolation",
                "nats if the stretch grows 2.7 times",
                _logit_change(diagnosis, count),
            ),
        )
    for x in ("k", "q"):
        table = diagnosis.tail_inflation["post"][x]
        found.append(DiagnosticByBand(f"tail_{x}", f"tail inflation of {x.upper()}", "× short", turning(table)))
    if diagnosis.logit_noise is not None:
        found.append(DiagnosticByBand("logit_noise", "logit noise", "nats RMS", turning(diagnosis.logit_noise.by_band)))
    width = [2 * (b.last_pair - b.first_pair + 1) for b in diagnosis.bands]
    largest = [
        [max((v for v in bins if v is not None), default=None) for bins in row] for row in diagnosis.dilation.absmax
    ]
    energy = [[_mean_square(bins, channels) for bins, channels in zip(row, width)] for row in diagnosis.dilation.rms]
    found.append(DiagnosticByBand(BASELINE_NAME, "largest |k|", "value of k", turning(largest), baseline=True))
    found.append(DiagnosticByBand("k_energy", "energy of k", "value of k, squared", turning(energy), baseline=True))
    return found


def _logit_change(diagnosis: Diagnosis, count: int) -> LayerBand:
    """How far each layer's own logits move by a band's pairs together; None in layers that do not turn."""
    rows: LayerBand = [[None] * len(diagnosis.bands) for _ in range(count)]
    for change in [group.logit_change for group in diagnosis.groups] or [diagnosis.logit_change]:
        if change is not None:
            for layer, moved in zip(change.layers, change.by_layer, strict=True):
                rows[layer] = list(moved)
    return rows


def _mean_square(rms: PerBand, channels: int) -> float | None:
    """Squared length of k inside a band, mean over equal position bins."""
    known = [v for v in rms if v is not None]
    return channels * math.fsum(v * v for v in known) / len(known) if known else None


def ranked(
    diagnostics: Sequence[DiagnosticByBand], costs: Sequence[Cost], kl: LayerBand, confidence: float
) -> list[RankedDiagnostic]:
    """Every diagnostic against the measured cost of the bands and, where there is one, the map by layer and band."""
    cost = [c.nll for c in costs]
    return [
        RankedDiagnostic(
            name=one.name,
            words=one.words,
            unit=one.unit,
            baseline=one.baseline,
            bands=one.bands,
            layers=one.layers,
            by_band=rank(spearman(one.bands, cost, confidence)),
            by_cell=rank(spearman_of_grid(one.layers, kl, confidence)) if kl else None,
        )
        for one in diagnostics
    ]


def rank(found: Correlation | None) -> Rank | None:
    """As a result."""
    return None if found is None else Rank(rho=found.rho, low=found.low, high=found.high, points=found.points)


def costs(nll: Mapping[str, list[float]], pairs: Mapping[str, tuple[int, int] | None], confidence: float) -> list[Cost]:
    """What each part costs above the reference.

    Args:
        nll: part -> mean NLL of each window.
        pairs: part -> its RoPE pairs; in the order wanted.
    """
    found = {name: paired_interval(nll[name], nll[REFERENCE], confidence) for name in pairs}
    return [Cost(name=name, pairs=pairs[name], nll=c.mean, low=c.low, high=c.high) for name, c in found.items()]


def added_up(nll: Mapping[str, list[float]], parts: Sequence[str], confidence: float) -> Sum:
    """The single costs together, window by window, against all channels rounded at once."""
    reference = nll[REFERENCE]
    single = [math.fsum(nll[name][w] - one for name in parts) for w, one in enumerate(reference)]
    whole = [a - b for a, b in zip(nll[WHOLE], reference, strict=True)]
    total = paired_interval(single, [0.0] * len(single), confidence)
    apart, all_at_once = paired_interval(single, whole, confidence), paired_interval(nll[WHOLE], reference, confidence)
    return Sum(
        nll=total.mean,
        low=total.low,
        high=total.high,
        apart=apart.mean,
        apart_low=apart.low,
        apart_high=apart.high,
        ratio=total.mean / all_at_once.mean if all_at_once.low > 0 else None,
    )


def again(nll: Mapping[str, list[float]], names: Sequence[str], confidence: float) -> Rank | None:
    """Does the cost measured on every other window order the bands as the cost on the windows between them?

    No diagnostic can be expected to order them better than they order themselves.
    """

    def half(first: int) -> list[float]:
        return [paired_interval(nll[name][first::2], nll[REFERENCE][first::2]).mean for name in names]

    return rank(spearman(half(0), half(1), confidence))


def sentences(
    parts: Sequence[Cost],
    whole: Cost,
    total: Sum,
    diagnostics: Sequence[RankedDiagnostic],
    estimate: Rank | None,
    repeated: Rank | None,
) -> dict[str, Any]:
    """`headline` and `findings` of a Prediction."""
    bands = [part for part in parts if part.pairs is not None]
    pressure = next(d for d in diagnostics if d.name == PRESSURE)
    head = f"Interpolation pressure {prediction_verb(pressure.by_band)} what a band costs here{_rho(pressure.by_band)}"
    if pressure.by_band is not None:
        head += f" over {pressure.by_band.points} bands"
    clear = sum(band.low > 0 for band in bands)
    found = [_best(diagnostics, "by_band", "Band by band")]
    if any(d.by_cell is not None for d in diagnostics):
        found.append(_best(diagnostics, "by_cell", "By layer and band"))
    proven = f"{clear} of {len(bands)} bands cost something significant when rounded alone"
    if repeated is not None:
        proven += f"; their order on every other window and on the windows between agrees with rho {_short(repeated)}"
    found.append(proven)
    found.append(_additive(whole, total))
    if estimate is not None:
        found.append(
            f"The estimate by layer and band, summed over layers, orders the bands as measured with rho "
            f"{_short(estimate)}"
        )
    return {"headline": head, "findings": found}


def prediction_verb(found: Rank | None) -> str:
    """What an interval of rho says, as a verb."""
    if found is None:
        return "cannot be compared with"
    if found.low > 0:
        return "predicts"
    return "ranks in reverse order" if found.high < 0 else "does not predict"


def _rho(found: Rank | None) -> str:
    return "" if found is None else f": rho {found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _best(diagnostics: Sequence[RankedDiagnostic], level: str, where: str) -> str:
    """Which diagnostics predict at this level, best first, against the baselines."""
    known = [(d, getattr(d, level)) for d in diagnostics if getattr(d, level) is not None]
    known.sort(key=lambda pair: -pair[1].rho)
    mine = [f"{d.words} ({_short(r)})" for d, r in known if not d.baseline and r.low > 0]
    count = sum(not d.baseline for d, _ in known)
    naive = [f"{d.words} {prediction_verb(r)} ({_short(r)})" for d, r in known if d.baseline]
    said = f"{len(mine)} of {count} diagnostics predict" + (f": {', '.join(mine)}" if mine else "")
    beside = f"; for comparison {', '.join(naive)}" if naive else ""
    return f"{where}, {said}{beside}" if known else f"{where}, nothing can be compared"


def _short(found: Rank) -> str:
    return f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _additive(whole: Cost, total: Sum) -> str:
    all_at_once = Interval(whole.nll, whole.low, whole.high, 0.0)
    costs_words = f"The single costs sum to {total.nll:+.4f} nats [{total.low:+.4f}, {total.high:+.4f}]"
    together = f"{all_at_once.mean:+.4f} [{all_at_once.low:+.4f}, {all_at_once.high:+.4f}]"
    apart = f"apart by {total.apart:+.4f} [{total.apart_low:+.4f}, {total.apart_high:+.4f}]"
    if total.ratio is None:
        return f"{costs_words}; rounding everything at once costs {together}, not significantly above zero"
    adds = "add up" if total.apart_low <= 0 <= total.apart_high else "do not add up exactly"
    return f"{costs_words}, {total.ratio:.2f} times the {together} of all channels at once: they {adds} ({apart})"
