"""What a search objective says about itself: a file of `scale_search/objectives` is one of them.

Every search begins with the cached objective, wherever that sees anything. Another objective is a second part: it looks
at the whole model, and goes on from what the first part found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from qroar_core.scale_search.cached import Report
from qroar_core.scale_search.optuna_candidates import TrialRunner
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.scale_search.state import AdamState

FIRST = "cached"  # the objective that every search begins with


class Refinement(Protocol):
    """The second part of a search, judged by the whole model; `best_candidate.BestCandidate` has what most share."""

    @property
    def started(self) -> bool:
        """True once a candidate is known."""

    @property
    def best(self) -> Tensor:
        """The point of the best candidate, (layers, kv, bands [+ pairs])."""

    def value(self, point: Tensor) -> float:
        """The objective of any scales; cheap when asked again."""

    def run(self, base: Tensor, past: Sequence[HistoryPoint] = ()) -> Tensor:
        """From `base`, or from identity where that is better; returns the point. `past`: of the part it continues."""

    def settled(self) -> AdamState | None:
        """On cancel: say what can still be said of the last candidate; where a gradient method stands."""

    def count(self) -> int:
        """Candidates it reports."""


Refine = Callable[[SearchProblem, Tensor, Report, AdamState | None, TrialRunner], Refinement]


@dataclass(frozen=True, slots=True)
class Objective:
    """One measure of how good scales are.

    Args:
        label: as menus call it.
        place: where it stands in menus; smaller comes first.
        require_seen: raises BadSpec where the objective cannot see what the quantizer does to scaled weights.
        refine: makes the second part from the problem, the limits of a point (layers, numbers, 2), what reports a
            candidate, the state of a part to be continued, and where candidates are evaluated. None: there is none.
        words: what stands behind the method's name in a report.
        reads: the fields of `SearchSpec` that only this objective, and others that name them, read.
        gradient: it has one, so that the angles of pairs can be searched under it.
        independent: its candidates do not follow from the best so far where the method's do not.
        reads_development: its candidates are measured on development text, which then cannot decide.
        what: what it measures, in one line for docs/method.md.
    """

    label: str
    place: int
    require_seen: Callable[[SearchProblem], None]
    refine: Refine | None = None
    words: str = ""
    reads: tuple[str, ...] = ()
    gradient: bool = True
    independent: bool = True
    reads_development: bool = False
    what: str = ""
