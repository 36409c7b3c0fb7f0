"""evaluation.json: the conditions compared on text the search never saw."""

from __future__ import annotations

from typing import Literal

from qroar_core.results.base import Result


class Row(Result):
    """One condition at one length. NLL in nats per token; `nll_se` over windows."""

    length: int
    model: Literal["reference", "quantized"]
    scales: Literal["identity", "tuned", "smooth_attention", "rotation", "rotation_tuned"]
    nll: float
    nll_se: float
    ppl: float
    tokens: int
    kl_mean: float | None = None
    kl_p99: float | None = None
    same_top1: float | None = None


class Gain(Result):
    """Quantized identity minus quantized tuned, nats per token, paired over windows.

    `significant` means the interval excludes zero and the gain is positive.
    """

    length: int
    delta_nll: float
    ci_low: float
    ci_high: float
    significant: bool
    windows: int
    confidence: float


class Attribution(Result):
    """repair = (quant_identity - quant_tuned) - (ref_identity - ref_tuned); retuning = the second bracket."""

    quantization_repair: float
    retuning: float
    repair_ci_low: float
    repair_ci_high: float


class PositionCurve(Result):
    """Mean NLL by position inside the scored targets of the longest length."""

    position: list[int]
    curves: dict[str, list[float]]


class Evaluation(Result):
    """Everything the evaluation shows; `rows` in length-major order."""

    rows: list[Row]
    gain: Gain | None
    attribution: Attribution | None
    gap_recovered: float | None  # share of the NLL gap quantized identity - reference that tuned wins back
    smooth_attention_gap_recovered: float | None = None
    sentence: str  # the finding in plain words
    text: str  # split, windows, digest
    window_nll: dict[str, list[float]] = {}  # "length/model/scales" -> mean NLL of each window
    positions: PositionCurve | None = None
