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


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Arrows:
    """A pair of the mean query, turned by the distance, and of the mean key, without and with a transform; (x, y)."""

    pair: int
    query: tuple[float, float]
    key: tuple[float, float]
    moved_query: tuple[float, float]
    moved_key: tuple[float, float]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Sweep:
    """What a transform does to attention by its amount; errors of the logits are RMS, shares of the RMS logit."""

    amounts: list[float]
    change: list[float]  # error of the logits by the transform alone, nothing rounded
    error: list[float]  # by transform and int4 K together
    key_error: list[float]  # RMS error of int4 K with the transform undone, share of the RMS of K
    plain_error: float  # of int4 K without the transform
    plain_key_error: float

    @property
    def best(self) -> int:
        """Index of the amount with the least error."""
        return min(range(len(self.error)), key=self.error.__getitem__)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Commuting:
    """One transform of a pair, or of two, of a real head: does a logit change, and what does int4 gain?"""

    label: str
    knob: str  # what its amount is
    at: int  # index of the amount chosen
    offset: bool  # a constant taken off K, no matrix
    pairs: list[int]
    inv_freq: list[float]  # rad/token, of each pair; 0: it stands still
    distance: int
    arrows: list[Arrows]
    logit: list[float]  # that these pairs add, by distance 0, 1, ...
    moved_logit: list[float]
    deviation: float  # the largest of any distance, what is the same for every key left out
    sweep: Sweep


@dataclass(frozen=True, slots=True, weakref_slot=True)
class TiedClocks:
    """Two neighbouring pairs at their own frequencies and at one; errors of the logits as in `Sweep`."""

    first: int
    turn: float
    length: int
    own: tuple[float, float]  # rad/token
    common: float
    logit: list[float]  # that both pairs add for the mean query and key, by distance 0 .. length - 1
    tied_logit: list[float]
    change: list[float]  # RMS over queries and keys at that distance, logits
    channels: list[str]
    range_before: list[float]  # RMS of K after RoPE, by channel of the group
    range_after: list[float]  # once mixed
    untied_int4: float
    tied: float  # nothing rounded
    tied_int4: float
    mixed_int4: float
    loudest: float  # share of tokens whose largest channel lies in the group, untied
    mixed_logit_change: float  # largest change of a tied logit by the mixing, nothing rounded, share of the RMS logit
