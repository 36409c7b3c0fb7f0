"""Logit noise, as the file keeps it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Annotated

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, Number, PerBand, Result
from qroar_core.result_shapes import axes

BLIND = (
    "random errors of the same average size in each layer and head, one for each key and one for each query, "
    "the same at every position"
)
OLDER = (
    " This file is from before 2026-11-29: where queries have errors too, its nulls of the KL and of the spread draw "
    "one anew for each key, and are too high."
)

DRAWS = 1000  # of the loudest band by chance


class NoiseNull(Result):
    """What the curves show for blind noise: each error with its layer's and head's mean energy, at a random angle.

    The energy of key errors is the mean over the (sampled query, key it sees) cells that the curves count, that of
    query errors the mean over the sampled rows. A key's error is its own, a query's one for its whole row. In closed
    form; nothing is drawn.
    """

    rms: Annotated[list[Number], axes("row")]
    rms_by_distance: Annotated[list[Number], axes("distance")]
    noise_std: Annotated[list[Number], axes("row")]
    # second order in the noise, mean over layers; empty: an older file
    attention_kl: Annotated[list[Number], axes("row")] = []
    by_band_position: Annotated[list[PerBand], axes("band", "row")] = []
    by_band_distance: Annotated[list[PerBand], axes("band", "distance")] = []
    unrotated_position: Annotated[list[Number], axes("row")] = []
    unrotated_distance: Annotated[list[Number], axes("distance")] = []
    # standard deviation over drawn errors of each band's mean square over rows, nats^2; empty: a file from before
    # 2026-11-30, or layers that do not turn
    by_band_chance: PerBand = []
    one_error_a_query: bool = False  # False: an older file, whose KL and spread take a query's error to differ by key

    def loudest(self) -> tuple[Number, Number, Number]:
        """Loudest band over the mean of bands by blind noise: mean over drawn errors and the ends of the central 95 %.

        Each band's mean square is drawn from the gamma distribution of its mean and standard deviation, always alike;
        bands hold different channels, whose errors are independent. Without the standard deviations: the ratio of the
        expected ones, and no ends.
        """
        plain = _loudest(self.by_band_position)
        means = [rms(row) for row in self.by_band_position]
        if plain is None or not self.by_band_chance or any(not m or not s for m, s in zip(means, self.by_band_chance)):
            return plain, None, None
        sizes = [(m * m, s) for m, s in zip(means, self.by_band_chance, strict=True) if m and s]
        source, found = random.Random(0), []
        for _ in range(DRAWS):
            bands = [math.sqrt(source.gammavariate((m / s) ** 2, s * s / m)) for m, s in sizes]
            found.append(max(bands) * len(bands) / math.fsum(bands))
        found.sort()
        off = DRAWS // 40
        return math.fsum(found) / DRAWS, found[off], found[-1 - off]

    @property
    def older(self) -> str:
        """What captions say of an older file."""
        return "" if self.one_error_a_query else OLDER


class LogitNoise(Result):
    """RMS of (quantized - reference) attention logits, nats, over layers unless said; the KL is a mean over them.

    What tells bands apart is pooled over the layers that turn, and None in a layer without RoPE, where all of the noise
    is `unrotated`.
    """

    position: Annotated[list[int], axes("row")]
    rms: Annotated[list[Number], axes("row")]
    attention_kl: Annotated[list[Number], axes("row")]  # nats per row
    distance: Annotated[list[int], axes("distance")]
    rms_by_distance: Annotated[list[Number], axes("distance")]
    # standard error over the sampled rows; empty: an older file
    rms_by_distance_error: Annotated[list[Number], axes("distance")] = []
    by_layer: Annotated[list[list[Number]], axes("layer", "row")]  # [layer][row]
    kl_by_layer: Annotated[list[list[Number]], axes("layer", "row")]  # attention KL, [layer][row]
    by_band: LayerBand  # [layer][band], RMS over rows
    by_band_position: Annotated[list[PerBand], axes("band", "row")]  # [band][row], mean over layers
    by_band_distance: Annotated[list[PerBand], axes("band", "distance")]  # [band][distance], mean over layers
    kind: str  # which error: local to the layer's own q and k, or propagated through the model
    # [layer], of the channels without rotation; empty where there are none, as the next
    unrotated: Annotated[list[Number], axes("layer")] = []
    unrotated_position: Annotated[list[Number], axes("row")] = []  # [row]
    unrotated_distance: Annotated[list[Number], axes("distance")] = []
    # [row], of the reference's logits over the keys of a row, before a cap
    logit_std: Annotated[list[Number], axes("row")] = []
    noise_std: Annotated[list[Number], axes("row")] = []  # [row], of the noise over the keys of a row
    logit_std_by_layer: Annotated[list[list[Number]], axes("layer", "row")] = []  # [layer][row]
    noise_std_by_layer: Annotated[list[list[Number]], axes("layer", "row")] = []
    null: NoiseNull | None = None
    null_by_layer: Annotated[list[list[Number]], axes("layer", "row")] = []  # RMS, [layer][row]
    # standard deviation over drawn errors of each layer's mean square over rows, at most, nats^2; empty: a file from
    # before 2026-11-30
    null_chance_by_layer: Annotated[list[Number], axes("layer")] = []
    null_kl_by_layer: Annotated[list[list[Number]], axes("layer", "row")] = []
    null_by_band: LayerBand = []
    null_unrotated: Annotated[list[Number], axes("layer")] = []
    sample: Sample | None = None  # None: a file from before layers without RoPE were kept apart

    def contradictions(self) -> Iterator[str]:
        """A null without what it is a null of."""
        if self.null is not None and not (
            self.noise_std and self.logit_std and self.null.by_band_position and self.null.by_band_distance
        ):
            yield "null: without noise_std, logit_std or its bands"

    def null_rows(self) -> list[NullRow]:
        """Growth with position and with distance, the loudest band and the spread of the scores, beside the null."""
        if self.null is None:
            return []
        null = self.null
        pairs = [
            (
                "RMS at the later half of the sampled rows over the earlier half",
                growth(self.rms),
                growth(null.rms),
                growth_error(self.rms),
            ),
            (
                "RMS at the far half of the distances over the near half",
                growth(self.rms_by_distance),
                growth(null.rms_by_distance),
                distance_growth_error(self.rms_by_distance, self.rms_by_distance_error),
            ),
        ]
        rows = [
            NullRow(diagnostic="Logit noise", quantity=what, measured=measured, null=blind, error=error, control=BLIND)
            for what, measured, blind, error in pairs
        ]
        middle, low, high = null.loudest()
        rows.append(
            NullRow(
                diagnostic="Logit noise",
                quantity="loudest band over the mean of bands, RMS over rows",
                measured=_loudest(self.by_band_position),
                null=middle,
                low=low,
                high=high,
                control=BLIND if low is None else f"{BLIND}; mean and central 95 % over such errors",
            )
        )
        rows.append(
            NullRow(
                diagnostic="Logit noise",
                quantity="spread of the noise over spread of the logits, last row",
                measured=_ratio(self.noise_std[-1], self.logit_std[-1]),
                null=_ratio(null.noise_std[-1], self.logit_std[-1]),
                control=f"{BLIND}.{null.older}" if null.older else BLIND,
            )
        )
        if null.attention_kl:
            rows.append(
                NullRow(
                    diagnostic="Logit noise",
                    quantity="attention KL, nats, mean over the sampled rows",
                    measured=_mean(self.attention_kl),
                    null=_mean(null.attention_kl),
                    control=f"{BLIND}; an approximation, good for small errors" + f".{null.older}" * bool(null.older),
                )
            )
        return rows


class NoiseCurves(Result):
    """What LogitNoise pools over layers, over the layers of one group; same positions and distances."""

    rms: Annotated[list[Number], axes("row")]
    attention_kl: Annotated[list[Number], axes("row")]
    rms_by_distance: Annotated[list[Number], axes("distance")]
    # standard error over the sampled rows; empty: an older file
    rms_by_distance_error: Annotated[list[Number], axes("distance")] = []
    # [band][row]; empty where the layers are not rotated, as the next
    by_band_position: Annotated[list[PerBand], axes("band", "row", empty=True)]
    by_band_distance: Annotated[list[PerBand], axes("band", "distance", empty=True)]
    unrotated_position: Annotated[list[Number], axes("row")] = []
    unrotated_distance: Annotated[list[Number], axes("distance")] = []
    logit_std: Annotated[list[Number], axes("row")] = []
    noise_std: Annotated[list[Number], axes("row")] = []
    null: NoiseNull | None = None


def growth(values: list[Number]) -> Number:
    """RMS of the later half of those that are known over that of the earlier half."""
    known = [v for v in values if v is not None]
    half = len(known) // 2
    return _ratio(rms(known[-half:]), rms(known[:half])) if half else None


def growth_error(values: list[Number]) -> Number:
    """Standard error of `growth` from the spread of rows within each half; None where a half has fewer than two."""
    known = [v * v for v in values if v is not None]
    half = len(known) // 2
    ratio = growth(values)
    if half < 2 or ratio is None:
        return None
    shares = []
    for rows in (known[-half:], known[:half]):
        mean = math.fsum(rows) / half
        shares.append(math.fsum((v - mean) ** 2 for v in rows) / (half * (half - 1)) / mean**2 if mean else 0.0)
    return ratio / 2 * math.sqrt(math.fsum(shares))


def distance_growth_error(values: list[Number], errors: list[Number]) -> Number:
    """Standard error of `growth` over distances from theirs; None in an older file, and where a half has none known.

    The octaves of a half are counted on the same rows, so their errors are taken to go together. The farthest may hold
    one row alone, whose error is not known: it is taken in proportion to the largest of its half.
    """
    known = [(v, e) for v, e in zip(values, errors) if v is not None]
    half, ratio = len(known) // 2, growth(values)
    if ratio is None or not half:
        return None
    shares = []
    for octaves in (known[-half:], known[:half]):
        noisy = [(v, e) for v, e in octaves if v]
        relative = [e / v for v, e in noisy if e is not None]
        if not relative:
            return None
        parts = [v * (e if e is not None else v * max(relative)) for v, e in noisy]
        shares.append(math.fsum(parts) / math.fsum(v * v for v, _ in noisy))
    return ratio * math.hypot(*shares)


def _loudest(bands: list[PerBand]) -> Number:
    sizes = [rms(row) for row in bands]
    known = [s for s in sizes if s is not None]
    return _ratio(max(known), math.fsum(known) / len(known)) if known else None


def _mean(values: list[Number]) -> Number:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def rms(values: Sequence[Number]) -> Number:
    """Of those that are known; None where none is."""
    known = [v for v in values if v is not None]
    return math.sqrt(math.fsum(v * v for v in known) / len(known)) if known else None


def _ratio(a: Number, b: Number) -> Number:
    return None if a is None or not b else a / b
