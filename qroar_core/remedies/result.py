"""A comparison: remedies side by side, alone and with band scales on top, and what each asks of the runtime."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field

from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.remedy import FREE, Remedy
from qroar_core.remedies.result_layers import LayerChoice
from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import ANY, axes
from qroar_core.scale_search.gain import targets_of
from qroar_core.specs import todays_remedy

ROTATION = "rotation"


def _known(method: str) -> str:
    if todays_remedy(method) not in BY_NAME:
        raise ValueError(f"unknown remedy {method!r}")
    return todays_remedy(method)


class RemedyRow(Result):
    """One remedy on the held-out windows. NLL in nats per token, intervals paired over windows.

    `gain` is the plain quantizer's NLL minus this one's; `gap_recovered` its share of what quantization costs, None
    where that cost is not significant. `added` is the same remedy's NLL without band scales minus this one's, only
    where `band_scales`; `angles`: every pair is turned too. `no_op` says why band scales cannot act on top of this
    remedy. `turned`: the runtime also rotates the q and k that the remedy has changed. `tie_cost` is what the remedy's
    tied pairs cost the unquantized model, and `note` which these are. `calibration`: the text that was read for a
    remedy which reads its own. `kept_layers`: those whose cache is not quantized, from 0.
    """

    method: Annotated[str, AfterValidator(_known)]
    band_scales: bool = False
    angles: bool = False  # only with band scales
    nll: float
    nll_se: float
    ppl: Unbounded
    gain: float | None = None  # None on plain itself
    gain_low: float | None = None
    gain_high: float | None = None
    gap_recovered: float | None = None
    added: float | None = None
    added_low: float | None = None
    added_high: float | None = None
    no_op: str = ""
    turned: bool = False
    note: str = ""
    tie_cost: float | None = None
    tie_cost_low: float | None = None
    tie_cost_high: float | None = None
    calibration: str = ""
    kept_layers: Annotated[list[int], axes(ANY)] = []
    kl: float | None = None  # to the unquantized model, mean over tokens; None where it was not measured
    window_nll: Annotated[list[float], axes("window")]
    window_kl: Annotated[list[float], axes("window")] | None = None  # whose mean `kl` is; older files have none

    @property
    def about(self) -> Remedy:
        """The remedy in words."""
        return BY_NAME[self.method]

    @property
    def name(self) -> str:
        """The remedy's name, with what is on top."""
        if self.turned:
            return f"{self.about.name} + {BY_NAME[ROTATION].name}"
        if not self.band_scales:
            return self.about.name
        return self.top if self.method == "plain" else f"{self.about.name} + {self.top}"

    @property
    def top(self) -> str:
        """What is on top, in words; empty where nothing is."""
        return f"band scales{' and angles' * self.angles}" if self.band_scales else ""

    @property
    def key(self) -> str:
        """Method, and `+` where band scales are on top, `++` where angles are too, `/rotation` where one is."""
        return self.method + "+" * (self.band_scales + self.angles) + f"/{ROTATION}" * self.turned

    @property
    def free(self) -> bool:
        """No run-time cost and nothing to change in the runtime."""
        return self.about.free and not self.turned

    @property
    def run_time(self) -> str:
        """What it costs at every token."""
        return self._asked("run_time")

    @property
    def runtime_change(self) -> str:
        """What the runtime must have."""
        return self._asked("runtime_change")

    def _asked(self, what: str) -> str:
        own: str = getattr(self.about, what)
        if not self.turned:
            return own
        also: str = getattr(BY_NAME[ROTATION], what)
        return also if own == FREE else f"{also}; {own}"


OLDER_ROWS = "standings"  # their name in files of before 2026-11-30


class Comparison(Result):
    """Every remedy measured; `rows` in the order of the methods, each alone, with band scales, with angles."""

    reference_nll: float
    reference_ppl: Unbounded
    reference_window_nll: Annotated[list[float], axes("window")]
    gap: float  # plain minus reference, nats per token
    gap_low: float
    gap_high: float
    rows: Annotated[list[RemedyRow], axes("remedy"), Field(validation_alias=AliasChoices("rows", OLDER_ROWS))]
    sentences: Annotated[list[str], axes(ANY)]  # the findings in plain words
    length: int
    confidence: float
    text: str  # windows, digest, seed; what was calibrated and searched on
    documents: Annotated[list[str], axes("window")] = []  # of each window; older runs do not say
    layers: LayerChoice | None = None  # of the remedy that keeps some, judged on the same windows
    untied: bool = False  # counted from the model without the setting's tie; older runs counted under it

    @property
    def measured_on(self) -> str:
        """The windows, what of them is scored, and what an interval is over."""
        return f"{self.text}. On held-out text {targets_of(self.length - 1, self.length)}; intervals over windows"
