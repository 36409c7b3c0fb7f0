"""Which RoPE pair and band a channel belongs to, read from a result alone.

`half` pairs channels (i, i + r/2), so every band appears twice along the head; `interleaved` pairs (2i, 2i + 1),
so every band appears once; channels from rotary_dim on turn with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from qroar_core.diagnostics.sample import Sample
from qroar_core.figures.picture import counted_on
from qroar_core.results import Diagnosis


def undrawn(sample: Sample | None) -> str:
    """What a figure was counted on that shows nothing dealt at random."""
    return counted_on(sample and sample.model_copy(update={"error": "", "seed": None}))


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of neighbouring channels of one band, both ends included; band None: no rotation."""

    first: int
    last: int
    band: int | None


def pair_of_channel(diagnosis: Diagnosis) -> list[int | None]:
    """RoPE pair of each channel of a head, None without rotation."""
    half = diagnosis.rotary_dim // 2
    turning = range(diagnosis.rotary_dim)
    pairs = [c % half if diagnosis.pairing == "half" else c // 2 for c in turning]
    return [*pairs, *[None] * (diagnosis.head_dim - diagnosis.rotary_dim)]


def band_of_channel(diagnosis: Diagnosis) -> list[int | None]:
    """Band of each channel of a head, None without rotation."""
    band_of_pair = {p: b.index for b in diagnosis.bands for p in range(b.first_pair, b.last_pair + 1)}
    return [None if pair is None else band_of_pair[pair] for pair in pair_of_channel(diagnosis)]


def runs(diagnosis: Diagnosis) -> list[Run]:
    """The bands along the channel axis, in order; together they cover it."""
    bands = band_of_channel(diagnosis)
    starts = [c for c, band in enumerate(bands) if c == 0 or band != bands[c - 1] or _seam(diagnosis, c)]
    return [Run(a, b - 1, bands[a]) for a, b in zip(starts, [*starts[1:], len(bands)])]


def channel_names(diagnosis: Diagnosis) -> list[str]:
    """`channel 5: pair 5, band 1`, for hovering."""
    pairs, bands = pair_of_channel(diagnosis), band_of_channel(diagnosis)
    return [
        f"channel {c}: no rotation" if pair is None else f"channel {c}: pair {pair}, band {band}"
        for c, (pair, band) in enumerate(zip(pairs, bands))
    ]


def _seam(diagnosis: Diagnosis, channel: int) -> bool:
    """Where the second halves of the pairs begin: one band alone would hide it."""
    return diagnosis.pairing == "half" and channel == diagnosis.rotary_dim // 2
