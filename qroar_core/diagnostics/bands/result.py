"""Bands and RoPE pairs as the file keeps them: what an interpolation does to each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from qroar_core.diagnostics.aliasing.result import NATIVE
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, Number, PerBand, Result, Unbounded
from qroar_core.result_shapes import axes

SLOWEST = 1e-30  # rad/token, of any pair: a frequency is above 0


class Band(Result):
    """One frequency band; pressures in rad or nats per e-fold of s."""

    index: int
    first_pair: int
    last_pair: int
    wavelength_min: Unbounded  # tokens, under the interpolation, as the next; infinite for pairs that stand still
    wavelength_max: Unbounded
    turns: float  # mean full turns per native window at the native frequencies
    interpolation_pressure: float
    phase_displacement: float  # rad
    logit_weighted_pressure: float  # sum over pairs of the mean |part|: an upper bound on how far the logits move
    side_peak: Number  # highest side peak of the band kernel, None if it has none
    unseen_phase: float  # share of phases at L never seen in training
    compression: float  # mean omega(s) / omega
    native_wavelength_min: Number = None  # tokens, without interpolation, as the next; None: an older file
    native_wavelength_max: Number = None
    logit_change: Number = None  # how far the logits move by this band: mean |sum of its pairs' parts|
    logit_change_error: Number = None  # its standard error over the sampled rows


class Pairs(Result):
    """The same per RoPE pair, for the figures that need the finer grain."""

    native_inv_freq: Annotated[list[float], axes("pair", least=SLOWEST)]  # rad/token
    inv_freq: Annotated[list[float], axes("pair", least=0.0)]  # 0: it stands still
    turns: Annotated[list[float], axes("pair")]  # per native window at the native frequencies
    interpolation_pressure: Annotated[list[float], axes("pair")]
    phase_displacement: Annotated[list[float], axes("pair")]
    logit_weighted_pressure: Annotated[list[float], axes("pair")]  # how far each pair alone moves the logits
    unseen_phase: Annotated[list[float], axes("pair")]
    attention_factor: float


def null_rows(bands: list[Band]) -> list[NullRow]:
    """The band that is furthest from each quantity's null: what the native RoPE shows within its own window.

    Interpolation pressure itself has none. It is a sensitivity, which is not 0 where a method stretches nothing yet, at
    s = 1; what is 0 there is the phase displacement.
    """
    asked = (
        ("Interpolation pressure", "phase_displacement", "phase displacement, rad", 0.0, max),
        ("Aliasing", "unseen_phase", "share of phases never seen in training", 0.0, max),
        ("Aliasing", "compression", "frequency left, interpolated over native", 1.0, min),
    )
    return [
        NullRow(
            diagnostic=diagnostic,
            quantity=f"{words}, {'highest' if worst is max else 'lowest'} band",
            measured=worst(getattr(band, name) for band in bands),
            null=null,
            control=NATIVE,
        )
        for diagnostic, name, words, null, worst in asked
    ]


class BandCost(Result):
    """What rounding one part of K's channels alone does: the bands, and last the channels without rotation.

    "int8" and "int4" are probes: every key rounded per token and KV head, symmetric, step from the largest |k| of the
    whole vector; outside the part the exact values stand. None where a layer has no such channels.
    """

    LOCAL: ClassVar = ("draw", "part")

    # "int8", "int4" -> [layer][part]: RMS error of the attention logits, nats
    noise: Annotated[dict[str, LayerBand], axes("layer", "part")]
    # KL of the attention row, exact to rounded, nats
    attention_kl: Annotated[dict[str, LayerBand], axes("layer", "part")]
    # "int8", "int4": part of K's squared rounding error
    error_share: Annotated[dict[str, LayerBand], axes("layer", "part")]
    channels: Annotated[list[int], axes("part", least=0)]  # of each part; the last, without rotation, may have none
    # standard error of each band's noise over the sampled rows, RMS over the layers with RoPE; empty: an older file
    noise_error: Annotated[dict[str, PerBand], axes("band")] = {}
    # "int8", "int4" -> [draw][layer][band]: `noise`, channels shuffled
    null: Annotated[dict[str, list[LayerBand]], axes("draw", "layer", "band")] = {}
    # KL of the next token, to second order; None: not asked for
    output_kl: Annotated[dict[str, LayerBand] | None, axes("layer", "part")] = None
    output_tokens: int = 0  # that it was estimated on
    sample: Sample | None = None

    def contradictions(self) -> Iterator[str]:
        """Probes that only some of the numbers have."""
        probes = [set(one) for one in (self.noise, self.attention_kl, self.error_share)]
        if not probes[0] or probes[0] != probes[1] or probes[0] != probes[2]:
            yield "noise, attention_kl and error_share: not of the same probes"
        if not probes[0] >= set(self.null) | set(self.output_kl or {}):
            yield "null or output_kl: of a probe that noise does not have"

    def null_rows(self) -> list[NullRow]:
        """The band with most noise against the mean one, measured and with the channels assigned at random."""
        rows = []
        for probe, layers in self.noise.items():
            drawn = [found for draw in self.null.get(probe, []) if (found := uneven(draw)) is not None]
            measured = uneven([row[:-1] for row in layers])
            if not drawn or measured is None:
                continue
            rows.append(
                NullRow(
                    diagnostic="Bands",
                    quantity=f"{probe} logit noise of the band with most over the RMS of all bands",
                    measured=measured,
                    null=sum(drawn) / len(drawn),
                    low=min(drawn),
                    high=max(drawn),
                    control="the same error, its channels assigned to the bands at random",
                )
            )
        return rows


def uneven(layers: LayerBand) -> float | None:
    """Largest over root mean square of the bands, each pooled over layers; None without any."""
    columns = [[v for v in column if v is not None] for column in zip(*layers)]
    energy = [sum(v * v for v in column) / len(column) for column in columns if column]
    mean = sum(energy) / len(energy) if energy else 0.0
    return (max(energy) / mean) ** 0.5 if mean else None
