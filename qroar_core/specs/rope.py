"""Which position interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qroar_core.errors import BadSpec
from qroar_core.specs.checks import at_least, one_of

MOST = 1e7  # a longer window than any memory holds; past 1e300 the window itself overflows
RopeMethod = Literal["default", "linear", "ntk", "dynamic", "yarn", "longrope", "llama3"]
METHOD_NAMES: dict[RopeMethod, str] = {  # as figures and menus call them
    "default": "the checkpoint's own",
    "linear": "linear",
    "ntk": "NTK-aware (static)",
    "dynamic": "dynamic NTK",
    "yarn": "YaRN",
    "longrope": "LongRoPE",
    "llama3": "llama3",
}


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """A position interpolation. `default` is the checkpoint's own RoPE, exactly as it ships.

    `original_context` None means the model's native window L0. LongRoPE takes its per-pair factor
    lists from the checkpoint, or from `long_factor` / `short_factor` given here.
    """

    method: RopeMethod = "default"
    factor: float = 1.0
    original_context: int | None = None
    beta_fast: float = 32.0  # YaRN, turns per native window: arXiv 2309.00071
    beta_slow: float = 1.0
    low_freq_factor: float = 1.0  # llama3, as shipped with Llama 3.1
    high_freq_factor: float = 4.0
    long_factor: tuple[float, ...] | None = None
    short_factor: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        one_of("rope method", self.method, RopeMethod)
        at_least("factor", self.factor, 1.0)
        if self.factor > MOST:
            raise BadSpec(f"factor must be at most {MOST:g}, got {self.factor:g}")
        if self.method == "default" and self.factor != 1.0:
            raise BadSpec(
                f"factor {self.factor} needs a method",
                where="--rope default",
                do="choose --rope linear, ntk, dynamic, yarn, longrope or llama3, or drop --factor",
            )
        if self.original_context is not None:
            at_least("original_context", self.original_context, 2)
        if not self.beta_fast > self.beta_slow > 0:
            raise BadSpec(f"need beta_fast > beta_slow > 0, got {self.beta_fast}, {self.beta_slow}")
        if not self.high_freq_factor > self.low_freq_factor > 0:
            raise BadSpec("need high_freq_factor > low_freq_factor > 0")
