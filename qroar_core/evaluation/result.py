"""evaluation.json: the conditions compared on held-out text."""

from __future__ import annotations

from typing import Annotated, Literal

from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import axes

Count = Annotated[int, axes(least=1)]
Share = Annotated[float, axes(least=0, most=1)]
NotNegative = Annotated[float, axes(least=0)]
Correlation = Annotated[float, axes(least=-1, most=1)]
Points = Annotated[float, axes(least=-100, most=100)]  # a change of a probability, percentage points


class KLReport(Result):
    """One condition against the reference's predictions, as llama.cpp's perplexity tool has it (kl_report.py).

    KL in nats, delta_p (change of the true token's probability) in percentage points. `kl` and `delta_p` are
    percentiles: "50" is the median, "0" and "100" the extremes. Errors (`_se`) are over windows.
    """

    ln_ratio: float  # ln(PPL / PPL of the reference)
    ln_ratio_se: float | None
    correlation: Correlation | None  # of the two NLL over tokens
    kl_mean: NotNegative
    kl_mean_se: float | None
    kl: dict[str, NotNegative]
    delta_p_mean: Points
    delta_p_mean_se: float | None
    delta_p_rms: Annotated[float, axes(least=0, most=100)]
    delta_p_rms_se: float | None
    delta_p: dict[str, Points]
    same_top1: Share
    same_top1_se: float | None


class Row(Result):
    """One condition at one length. NLL in nats per token; `nll_se` over windows."""

    length: Count
    model: Literal["reference", "quantized"]
    # untied: without scales, and with no pairs tied
    scales: Literal["identity", "tuned", "smooth_attention", "rotation", "rotation_tuned", "untied"]
    nll: float
    nll_se: float
    ppl: Unbounded
    tokens: Count
    kl_mean: NotNegative | None = None
    kl_p99: NotNegative | None = None
    same_top1: Share | None = None
    close: KLReport | None = None


class Gain(Result):
    """Quantized identity minus quantized tuned, nats per token, paired over windows.

    `significant` means the interval lies above zero, in the digits that are shown.
    """

    length: Count
    delta_nll: float
    ci_low: float
    ci_high: float
    significant: bool
    windows: Count
    confidence: Share


class DocumentGain(Result):
    """The same gain with documents as the unit: the mean of their mean gains, Student's t over documents."""

    documents: Count
    delta_nll: float
    ci_low: float
    ci_high: float
    significant: bool
    sentence: str


class Attribution(Result):
    """repair = (quant_identity - quant_tuned) - (ref_identity - ref_tuned); retuning = the second bracket."""

    quantization_repair: float
    retuning: float
    repair_ci_low: float
    repair_ci_high: float
    retuning_ci_low: float | None = None
    retuning_ci_high: float | None = None


class RotationFinding(Result):
    """What a Hadamard rotation recovers of quantized identity, nats per token, paired over windows.

    `added` is rotation minus rotation with scales that were searched under the rotated quantizer; None
    when no such scales were given. `recovered` is the share of the NLL gap to the reference.
    """

    delta_nll: float
    ci_low: float
    ci_high: float
    recovered: float | None
    added: float | None = None
    added_ci_low: float | None = None
    added_ci_high: float | None = None
    sentence: str


class TieFinding(Result):
    """What tied pairs cost, and what is left of the tuned scales' gain, counted from the model without a tie.

    `cost`: reference minus the reference without a tie. `delta_nll`: the quantized model without a tie or scales minus
    the tuned one; None where nothing was tuned. Both nats per token, paired over windows. `recovered`: that gain as a
    share of what quantization costs the model without a tie.
    """

    cost: float
    cost_low: float
    cost_high: float
    delta_nll: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    recovered: float | None = None
    sentence: str


class PositionCurve(Result):
    """NLL by position in the window, over the scored targets of the longest length, nats.

    `curves` are means over windows; `cost_low` and `cost_high` bound each condition's NLL above the
    reference's, paired over windows.
    """

    position: Annotated[list[int], axes("position")]
    curves: Annotated[dict[str, list[float]], axes("position")]
    cost_low: Annotated[dict[str, list[float]], axes("position")] = {}
    cost_high: Annotated[dict[str, list[float]], axes("position")] = {}


class Evaluation(Result):
    """Everything the evaluation shows; `rows` in length-major order."""

    rows: Annotated[list[Row], axes("row")]
    gain: Gain | None
    attribution: Attribution | None
    gap_recovered: float | None  # share of the NLL gap quantized identity - reference that tuned recovers
    smooth_attention_gap_recovered: float | None = None
    sentence: str  # the finding in plain words
    text: str  # split, windows, digest
    stride: int | None = None  # tokens that windows slided by, each scoring so many; None: one window per text
    # "length/model/scales" -> mean NLL of each window
    window_nll: Annotated[dict[str, list[float]], axes("window")] = {}
    window_kl: Annotated[dict[str, list[NotNegative]], axes("window")] = {}  # the same, mean KL; older files have none
    positions: PositionCurve | None = None
    rotation: RotationFinding | None = None
    tie: TieFinding | None = None
    documents: Annotated[list[str], axes("window")] = []  # of each window
    gain_by_document: DocumentGain | None = None  # None with fewer than three documents

    @property
    def caveat(self) -> str:
        """What speaks against a gain that is significant over windows; "" where nothing does.

        Windows of one document are alike: documents as the unit are the harder question. And what a tie costs has to
        be won back first.
        """
        if self.gain is None or not self.gain.significant:
            return ""
        counted, tie = self.gain_by_document, self.tie
        against = [] if counted is None or counted.significant else [counted.sentence]
        against += [] if tie is None or tie.ci_low is None or tie.ci_low > 0 else [tie.sentence]
        return "; ".join(against)

    @property
    def holds_only(self) -> str:
        """Where a significant gain with a caveat holds and where it does not, in a few words; "" without a caveat."""
        if not self.caveat:
            return ""
        by_document = self.gain_by_document is not None and not self.gain_by_document.significant
        return "over windows, not over documents" if by_document else "under the tie, not beside the model without it"

    @property
    def finding(self) -> str:
        """The sentence with its caveat: a significant gain is never said without what speaks against it."""
        said = f"{self.sentence}. But {self.caveat}" if self.caveat else self.sentence
        return f"{said}; {self.tie.sentence}" if self.tie is not None and self.tie.sentence not in said else said

    @property
    def targets(self) -> int:
        """Tokens scored of each window, or of each text where windows slided."""
        return self.rows[-1].tokens // self.gain.windows if self.gain is not None and self.rows else 0
