"""What the lessons hand to their figures: plain numbers, one class a lesson.

Not written to disk, hence dataclasses. Angles in rad, positions, distances and wavelengths in tokens,
frequencies in rad/token. "clock", "pair" and "band" index lists in the order of rising wavelength.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Clocks:
    """Pairs of a query and a key as clock hands while both tokens move on together.

    `key` and `query` are angles in [0, 2 pi), [frame][clock]; `between` is query - key, [clock].
    """

    pairs: list[int]
    wavelength: list[float]
    distance: int
    positions: list[int]  # of the key, one a frame; the query stands `distance` tokens later
    key: list[list[float]]
    query: list[list[float]]
    between: list[float]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Window:
    """Each pair's wavelength beside the trained window, and what a longer context adds."""

    original_context: int
    length: int
    wavelength: list[float]
    turns: list[float]  # per native window
    seen: list[float]  # share of the circle met within the native window, 0..1
    new: list[float]  # share of the circle first met between the native window and `length`
    unseen: list[float]  # share of the distances up to `length` whose phase is new


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Bend:
    """One interpolation: frequency by pair, left share of the native one, factor on cos and sin."""

    method: str
    inv_freq: list[float]
    compression: list[float]
    attention_factor: float


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Bends:
    """Every interpolation at one factor, for a context of `length` = factor * native window."""

    factor: float
    length: int
    native: list[float]  # rad/token
    wavelength: list[float]
    methods: list[Bend]
    tied: str = ""  # which pairs, in words; a pair that stands still has frequency 0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Kernel:
    """C_b by distance bucket: least and greatest value; height and distance of the highest side peak."""

    low: list[list[float]]  # [band][bucket]
    high: list[list[float]]
    peak: list[float | None]  # None where the kernel has no side peak up to the reach
    peak_at: list[int]  # -1 where None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Aliasing:
    """Band kernels before and after one interpolation."""

    method: str
    factor: float
    bands: list[tuple[int, int]]
    distance: list[int]  # first of each bucket
    bucket: int  # distances in a bucket
    native: Kernel
    scaled: Kernel


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Turning:
    """A pair of fixed length on an axis-aligned grid, at every angle.

    The pair shares its step with one further channel of magnitude `other`.
    """

    bits: int
    length: float
    other: float
    angle: list[float]
    x: list[float]
    y: list[float]
    rounded_x: list[float]
    rounded_y: list[float]
    step: list[float]
    error: list[float]  # |z^ - z| / |z|
    at: int  # index of the angle looked at
    levels: list[float]  # of the grid at that angle


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SharedStep:
    """Two bands of K that share one step a token, under a symmetric scale g on the loud one.

    Points are the pairs of K in units of their token's step, [point] (x, y); errors are RMS errors of the
    logits over the RMS of the logits, by `grid` = log2 g.
    """

    bits: int
    loudness: float
    log2_g: float
    top: int  # highest code
    loud: list[tuple[float, float]]
    quiet: list[tuple[float, float]]
    loud_levels: int  # codes the band's channels take
    quiet_levels: int
    grid: list[float]
    error: list[float]
    loud_error: list[float]  # what the loud band's channels put into it, and the quiet band's
    quiet_error: list[float]
    error_here: float
    best_log2_g: float
    best_error: float
    logit_change: float  # largest change of an unquantized logit by any g tried, over the RMS logit
