"""A measured cache format with its remedy, and what is known of the difference between two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from qroar_core.errors import BadSpec
from qroar_core.specs.tradeoff import LOSSES, Loss
from qroar_core.statistics.intervals import Interval, paired_interval

NO_REMEDY = "none"
GB = 1e9  # bytes


@dataclass(frozen=True, slots=True, order=True)
class SetupKey:
    """What all points of one figure have in common: losses of other models, texts or lengths cannot be compared."""

    model: str
    rope: str
    factor: float
    rope_options: str
    length: int
    text: str
    seed: int

    @property
    def words(self) -> str:
        """`demo, yarn ×4, 256 tokens of technical, seed 0`."""
        rope = "own RoPE" if self.rope == "default" else f"{self.rope} ×{self.factor:g}"
        options = f" ({self.rope_options})" if self.rope_options else ""
        return f"{self.model}, {rope}{options}, {self.length:,} tokens of {self.text}, seed {self.seed}"


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One cache format with one remedy.

    Args:
        quantizer, remedy: in the words of a sweep's file.
        bytes_per_token: of K and V over all layers, at the length that is asked about.
        loss: lower is better; `low` and `high` are the ends of its 95 % interval, None where none is known.
        units: the loss of each window, or of each trial, which the interval is over; empty: not kept.
        sample: which windows or trials these are; units of two points are paired where it is the same.
        served: False: scales that were found, but that a run does not apply.
        run: its folder, where it is on this disk. kept_layers: whose cache is not quantized, by the remedy.
    """

    quantizer: str
    remedy: str
    bytes_per_token: float
    loss: float
    low: float | None = None
    high: float | None = None
    units: tuple[float, ...] = ()
    sample: str = ""
    served: bool = True
    run: Path | None = None
    kept_layers: tuple[int, ...] = ()
    quantized: bool = True

    @property
    def name(self) -> str:
        """`kv=q4_0, rotation`; a format without a remedy is called by its own name."""
        return self.quantizer if self.remedy == NO_REMEDY else f"{self.quantizer}, {self.remedy}"

    def gigabytes(self, length: int, batch: int) -> float:
        """Of the whole cache, 10^9 bytes."""
        return self.bytes_per_token * length * batch / GB


def difference(of: Point, less: Point) -> tuple[Interval, bool]:
    """Loss of one point less that of another with its interval, and whether it is paired.

    Where the windows of both are known and the same, it is paired over them. Else the interval reaches from the one's
    low end less the other's high end to the opposite: it holds however the two are correlated, and is wide.
    """
    if of.sample and of.sample == less.sample and len(of.units) == len(less.units):
        return paired_interval(of.units, less.units), True
    mean = of.loss - less.loss
    low = -math.inf if of.low is None or less.high is None else of.low - less.high
    high = math.inf if of.high is None or less.low is None else of.high - less.low
    return Interval(mean, low, high, math.nan), False


def require_loss(loss: object) -> Loss:
    """The choice of a loss; raises BadSpec for another word."""
    for known in LOSSES:
        if loss == known:
            return known
    raise BadSpec(f"unknown loss {loss!r}", where="--loss", do=f"choose one of {', '.join(LOSSES)}")
