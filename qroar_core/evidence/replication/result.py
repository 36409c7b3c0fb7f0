"""replication.json: the papers' claims, tested setting by setting, each with its figure, interval and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from qroar_core.evidence.controls.result import Estimate
from qroar_core.result import Result
from qroar_core.result_shapes import axes

Name = Literal[
    "amplified",
    "amplified_long",
    "pressure",
    "weighted_pressure",
    "tails_k",
    "tails_q",
    "short_context",
    "perplexity",
    "accuracy",
]
ONLY_WHERE_ASKED = {"accuracy"}  # it needs tasks of lm-evaluation-harness
Verdict = Literal["holds", "does not hold", "undecided", "not testable here"]


class Claim(Result):
    """One claim under one setting. `value` is in the unit of `claims.CLAIMS`; `detail` says more, or why not."""

    name: Name
    verdict: Verdict
    value: Estimate | None
    detail: str


class SettingClaims(Result):
    """One setting with its claims."""

    name: str
    rope: dict[str, Any]
    quantization: dict[str, Any]
    claims: Annotated[list[Claim], axes("claim")]


class Replication(Result):
    """Everything the replication shows. Lengths in tokens."""

    spec: dict[str, Any]  # the ReplicationSpec that was asked
    length: int
    short_length: int
    native: int
    windows: int
    confidence: float
    tolerance: float  # nats per token scales may cost at short context
    least_cut: float  # share of the perplexity
    text: str
    cases: Annotated[list[SettingClaims], axes("case")]
    tasks: dict[str, Any] = {}  # the HarnessSpec of the claim about accuracy; without it that claim is not there

    @property
    def measured_on(self) -> str:
        """The windows, and what of them is scored."""
        return f"{self.text}, every target of each window scored, intervals over windows"

    def contradictions(self) -> Iterator[str]:
        """Settings that are not all asked the same, each claim once."""
        wanted = sorted({*get_args(Name)} - (set() if self.tasks else ONLY_WHERE_ASKED))
        for case in self.cases:
            if sorted(claim.name for claim in case.claims) != wanted:
                yield f"cases: {case.name[:40]} does not have every claim once"
