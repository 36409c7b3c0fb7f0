"""controls.json: what else the gain of the tuned scales could have come from, each possibility measured beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import ANY, Sizes, axes
from qroar_core.scale_search.gain import targets_of
from qroar_core.specs import Mode
from qroar_core.statistics.intervals import IntervalOfNats

Kind = Literal["tuned", "unquantized", "bands", "heads", "text", "seed"]


class Estimate(Result, IntervalOfNats):
    """A mean over windows of text with its interval, paired window by window."""

    mean: Unbounded
    low: Unbounded
    high: Unbounded


class Control(Result):
    """What some scales win, nats per token: NLL under identity minus NLL under them, same model, same windows.

    `unquantized` is measured on the unquantized model, all others on the quantized one. With several draws (other
    shuffles, other seeds) `gain` and `lost` are of their mean and `least` to `most` is what single draws win.
    `lost`: what the tuned scales win more than these.
    """

    kind: Kind
    name: str
    draws: int
    gain: Estimate
    least: float
    most: float
    lost: Estimate | None


class Precision(Result):
    """The same measured in one number format; nats per token. `problem` says why there are no numbers."""

    dtype: str
    loaded: bool  # the format the model was loaded in
    problem: str = ""
    reference: Estimate | None = None  # its reference above that of the loaded format
    cost: Estimate | None = None  # quantized above its own reference
    gain: Estimate | None = None  # what the tuned scales win of it
    above: Estimate | None = None  # quantized and tuned above its own reference


class ControlFinding(Result):
    """One control in plain words. `good`: as it must be if the scales repair quantization; None: undecided."""

    about: Kind | Literal["dtype"]
    sentence: str
    good: bool | None


class Controls(Result):
    """Everything the controls show. `window_nll`: condition -> draw -> mean NLL of each window, nats."""

    spec: dict[str, Any]  # the ControlSpec that was asked
    mode: Mode
    length: int
    windows: int
    confidence: float
    text: str
    controls: Annotated[list[Control], axes(ANY)]
    precisions: Annotated[list[Precision], axes(ANY)]
    findings: Annotated[list[ControlFinding], axes(ANY)]
    window_nll: Annotated[dict[str, list[list[float]]], axes(ANY, "window")]
    documents: Annotated[list[str], axes("window")] = []  # of each window; older runs do not say

    @property
    def measured_on(self) -> str:
        """The windows, and what of them is scored."""
        return f"{self.text}, {targets_of(self.length - 1, self.length)}"

    def sizes(self) -> Sizes:
        """Lengths that other fields name."""
        return {"window": (self.windows, "windows")}

    def contradictions(self) -> Iterator[str]:
        """What a figure's title needs."""
        if not any(finding.about == "tuned" for finding in self.findings):
            yield "findings: none on the tuned scales"
