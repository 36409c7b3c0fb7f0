"""tune_rope.json: which interpolations were tried, which were chosen, and what held-out text says of the choices."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Strict

from qroar_core.errors import BadSpec
from qroar_core.evidence.controls.result import Estimate
from qroar_core.interpolations.rope_file import rope_of_json
from qroar_core.interpolations.spec import RopeSpec, rope_of_block
from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import ANY, Sizes, axes
from qroar_core.scale_search.gain import targets_of

How = Literal["setting", "published", "nearest", "proposed", "exchanged"]
Choice = Literal["setting", "full precision", "quantizer"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


def _understood(block: dict[str, Any]) -> dict[str, Any]:
    try:
        rope_of_block(block)
        rope_of_json(block)
    except TypeError as error:
        raise ValueError(f"no interpolation ({error})") from error
    except BadSpec as error:
        raise ValueError(error.what) from error
    return block


def _infinity(value: object) -> object:
    return math.inf if value == "Infinity" else value


def _possible(nll: float) -> float:
    if math.isnan(nll) or nll == -math.inf:
        raise ValueError(f"{nll} is no NLL")
    return nll


RopeBlock = Annotated[dict[str, Any], AfterValidator(_understood)]  # of a RopeSpec, as every file has it
StrictNumber = Annotated[float, Strict()]  # no text, no true or false
NLL = Annotated[Unbounded, Strict(), BeforeValidator(_infinity), AfterValidator(_possible)]


class TriedRope(Result):
    """One interpolation that a study tried.

    `how`: the setting's own, a method at its published numbers, of a method that needs lists the nearest to the
    setting's, proposed by the search, or the other study's best, tried here too.
    """

    rope: RopeBlock
    how: How
    nll: NLL  # mean of the development windows, nats per token; infinite: it left the number format

    @property
    def spec(self) -> RopeSpec:
        """As every stage takes it."""
        return rope_of_block(self.rope)


class RopeStudy(Result):
    """What was tried in one condition, in its order."""

    quantized: bool
    trials: Annotated[list[TriedRope], axes(ANY)]

    @property
    def best(self) -> TriedRope:
        """The least NLL; of equal ones the first."""
        return min(self.trials, key=lambda one: one.nll)


class HeldOutNLL(Result):
    """One interpolation in one condition on the held-out windows, at the full or at the short length."""

    rope: RopeBlock
    quantized: bool
    short: bool
    nll: Annotated[list[StrictNumber], axes(ANY)]  # of every window, nats per token

    @property
    def spec(self) -> RopeSpec:
        """As every stage takes it."""
        return rope_of_block(self.rope)


class RopeTrials(Result):
    """rope_trials.json: what a search that was stopped had measured by then, exact, so that it can go on.

    `measured_under`: checksums of everything that decides a number, by name; empty in files of before 2026-12-01, with
    which no search goes on. `seconds`: what it took by then.
    """

    studies: Annotated[list[RopeStudy], axes(ANY)]
    heldout: Annotated[list[HeldOutNLL], axes(ANY)] = []
    measured_under: dict[str, str] = {}
    seconds: StrictNumber = 0.0

    def to_json(self) -> str:
        """The file's text with every digit: a search that goes on proposes what it would have proposed."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


class JudgedRope(Result):
    """One choice in one condition on held-out text; NLL in nats per token, intervals paired over windows.

    `gain`: NLL under the setting's own interpolation minus NLL under this one, same condition; None of the setting's
    own. `short_cost`: NLL under this one minus that under the setting's own at short context.
    """

    choice: Choice
    quantized: bool
    nll: float
    short_nll: float
    gain: Estimate | None = None
    short_cost: Estimate | None = None
    window_nll: Annotated[list[float], axes("window")]
    short_window_nll: Annotated[list[float], axes("short window")]


class ChosenRope(Result):
    """One interpolation beside the plain RoPE of the model."""

    choice: Choice
    rope: RopeBlock
    inv_freq: Annotated[list[float], axes("pair")]  # rad/token; 0 where a pair stands still
    attention_factor: float

    @property
    def spec(self) -> RopeSpec:
        """As every stage takes it."""
        return rope_of_block(self.rope)


class RopeSearch(Result):
    """The interpolation chosen in full precision and under the quantizer, each judged both ways.

    `worth`: under the quantizer, the NLL of the choice made in full precision minus that of the choice made there: what
    choosing on the quantized model is worth. `worth_by_document` has documents as its unit; None with fewer than three.
    `reverse`: in full precision, the NLL of the quantizer's choice minus that of the other.
    """

    spec: dict[str, Any]  # the RopeSearchSpec that was asked
    quantization: dict[str, Any]
    length: int
    short_length: int
    native: int
    windows: int
    short_windows: int
    confidence: float
    text: str
    documents: Annotated[list[str], axes("window")]
    absent: dict[str, str]  # methods that were not searched, and why
    native_inv_freq: Annotated[list[float], axes("pair")]
    studies: Annotated[list[RopeStudy], axes(ANY)]  # in full precision, under the quantizer
    chosen: Annotated[list[ChosenRope], axes(ANY)]  # setting, full precision, quantizer
    judged: Annotated[list[JudgedRope], axes(ANY)]
    worth: Estimate
    worth_by_document: Estimate | None
    reverse: Estimate
    kept: Literal["setting", "quantizer"]  # what rope.json holds
    sentences: Annotated[list[str], axes(ANY)]
    seconds: float

    @property
    def measured_on(self) -> str:
        """The windows, and what of them is scored."""
        return f"{self.text}, {targets_of(self.length - 1, self.length)}, intervals over windows"

    def interpolation(self, choice: Choice) -> ChosenRope:
        """One of the three interpolations."""
        return next(one for one in self.chosen if one.choice == choice)

    def row(self, choice: Choice, quantized: bool) -> JudgedRope:
        """One of the six measurements."""
        return next(one for one in self.judged if (one.choice, one.quantized) == (choice, quantized))

    @property
    def rope(self) -> RopeSpec:
        """What is worth keeping: the quantizer's choice where it is better than the setting's own, else that one."""
        return self.interpolation(self.kept).spec

    def sizes(self) -> Sizes:
        """Lengths that other fields name."""
        return {"window": (self.windows, "windows"), "short window": (self.short_windows, "short_windows")}

    def contradictions(self) -> Iterator[str]:
        """What tables and figures need."""
        if [study.quantized for study in self.studies] != [False, True] or not all(s.trials for s in self.studies):
            yield "studies: not one in full precision and one under the quantizer"
        if tuple(one.choice for one in self.chosen) != CHOICES:
            yield f"chosen: not {', '.join(CHOICES)}"
        wanted = [(choice, quantized) for quantized in (False, True) for choice in CHOICES]
        if [(one.choice, one.quantized) for one in self.judged] != wanted:
            yield "judged: not every choice once in each condition"
