"""What titles and captions of the logit noise say of its numbers."""

from __future__ import annotations

import math
from statistics import NormalDist

from qroar_core.diagnostics.logit_noise.result import LogitNoise, NoiseNull, distance_growth_error, growth, growth_error
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import ROW_ERRORS
from qroar_core.result import Number
from qroar_core.statistics.chance import LEVEL
from qroar_core.statistics.digits import shown, within

NO_NOISE = "There is none"
SHARE = "its share of channels"
NORMAL = NormalDist()
Cell = tuple[str, Number, Number, Number]  # name, RMS, that of its null, and the null's spread over it
JUDGED = (
    " The title names what is furthest above its null in proportion, not what is largest: a wide band makes more noise "
    "because it is wide."
)
SPREAD = (
    f" It is named if it lies further above than its null's spread reaches in {1 - LEVEL:.0%} of cases, the largest of "
    "as many cells."
)


def loudest(cells: list[Cell], most: str = "Most in", beside_it: str = SHARE) -> str:
    """The cell furthest above its null in proportion, for a title; the plain maximum in a file without nulls."""
    known = [cell for cell in cells if cell[1] is not None]
    if not any(cell[1] for cell in known):
        return NO_NOISE
    beside = [(value / null, name, spread) for name, value, null, spread in known if value is not None and null]
    if not beside:
        return f"{most} {max(known, key=lambda cell: cell[1] or 0.0)[0]}"
    ratio, name, spread = max(beside, key=lambda one: one[0])
    reach = NORMAL.inv_cdf(1 - LEVEL / len(beside)) * (spread or 0.0)
    if ratio <= 1 + reach:
        return f"None makes more than {beside_it} would"
    times = shown(ratio, spread) if spread else f"{ratio:.2f}"
    return f"{most} {name}, beside what {beside_it} would make ({times} times its null)"


def band_spreads(noise: LogitNoise, parts: float = 1.0) -> list[Number]:
    """Standard deviation of every band's RMS under the null over that RMS; empty in an older file.

    Args:
        parts: of this many equal parts of the sample, one layer of several or half of the rows, the RMS of one.
    """
    null = noise.null
    if null is None or not null.by_band_chance:
        return []
    return _spreads(null.by_band_position, null.by_band_chance, parts)


def layer_spreads(noise: LogitNoise, parts: float = 1.0) -> list[Number]:
    """The same of every layer, of all bands together; where queries have errors, at most so much."""
    if not noise.null_by_layer or not noise.null_chance_by_layer:
        return []
    return _spreads(noise.null_by_layer, noise.null_chance_by_layer, parts)


def _spreads(rows: list[list[Number]], chances: list[Number], parts: float) -> list[Number]:
    squares = [[v * v for v in row if v is not None] for row in rows]
    means = [math.fsum(row) / len(row) if row else 0.0 for row in squares]
    both = zip(chances, means, strict=True)
    return [math.sqrt(parts) * s / (2 * mean) if s and mean else None for s, mean in both]


def of_kl(null: NoiseNull) -> str:
    """What the null of the KL is."""
    if not null.attention_kl:
        return " The KL of this file, from an older version, has no null."
    return (
        " For the KL the null is an approximation, good for small errors. Where a row reads every key exactly and "
        "queries have no errors, both are 0." + null.older
    )


def won(seen: dict[str, LogitNoise]) -> str:
    """How the tuned RMS compares, over the sampled rows."""
    if "tuned" not in seen:
        return ""
    before, after = (sum(v or 0.0 for v in seen[name].rms) for name in ("quantized", "tuned"))
    return f" Tuned scales change its RMS by {after / before - 1:+.0%}" if before else ""


def grown(noise: LogitNoise) -> str:
    """How the later half of the rows compares with the earlier one, and how it does under the null."""
    if noise.null is None:
        return ""
    measured, blind, error = growth(noise.rms), growth(noise.null.rms), growth_error(noise.rms)
    if measured is None:
        return " None at the earlier rows" if any(noise.rms) else f" {NO_NOISE}"
    times = f"{measured:.2f}" if error is None else within(measured, error)
    beside = "" if blind is None else f", {blind:.2f} × for random errors"
    return f" {times} × from the earlier rows to the later{beside}"


def further(noise: LogitNoise) -> str:
    """The same of the farther half of the distances and the nearer one."""
    measured = growth(noise.rms_by_distance)
    error = distance_growth_error(noise.rms_by_distance, noise.rms_by_distance_error)
    blind = growth(noise.null.rms_by_distance) if noise.null else None
    if not any(noise.rms_by_distance):
        return f" {NO_NOISE}"
    if measured is None or blind is None:
        return ""
    times = f"{measured:.2f}" if error is None else within(measured, error)
    return f" {times} × from the nearer octaves to the farther, {blind:.2f} × for random errors"


def bars(noise: LogitNoise) -> str:
    """What bars over distances are, and ± in the title."""
    if not noise.rms_by_distance_error:
        return ""
    return f" Bars{' and ±' * (' ± ' in further(noise))} are {ROW_ERRORS}."


def against(tuned: Diagnosis | None) -> str:
    """What the zero line is, and for `shared` scales that the tuned one is not the same."""
    if tuned is not None and tuned.scales_mode == "shared":
        return (
            " The dashed zero line is the reference; shared scales change the logits themselves, so tuned is held "
            "against its own reference: the unquantized model with the same scales."
        )
    return " The dashed zero line is the reference."
