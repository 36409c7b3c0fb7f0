"""What a search method says about itself: a file of `scale_search/methods` is one of them.

A method goes down the cached objective. It starts from identity and never ends above it. It keeps what it finds in a
`SearchState`, so that a cancelled search still has its best, and a continued one goes on at the candidate where it
stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from qroar_core.scale_search.state import SearchState
from qroar_core.specs import SearchSpec


@dataclass(frozen=True, slots=True)
class SearchMethod:
    """One way down the cached objective.

    Args:
        place: where it stands in menus; smaller comes first.
        descend: offers candidates to the state, and reports them. The second argument holds the starts, points
            (`maths/transform_point.py`) by name, "identity" among them.
        count: how many candidates it reports, by the spec and the number of bands.
        label: how the names of those candidates begin in the history; empty: nothing counts them again.
        reads: the fields of `SearchSpec` that only this method, and others that name them, read.
        gradient: it follows one, and so can also search what only a gradient finds, as the angles of pairs.
        independent: its candidates do not follow from the best so far, so that processes can share them; an
            objective that looks at the whole model then takes Optuna's candidates too, else it sweeps over the bands.
        what: what it does, in one line for docs/method.md.
    """

    place: int
    descend: Callable[[SearchState, dict[str, Tensor]], None]
    count: Callable[[SearchSpec, int], int]
    reads: tuple[str, ...]
    what: str
    label: str = ""
    gradient: bool = False
    independent: bool = False


def begin(run: SearchState, starts: dict[str, Tensor]) -> None:
    """Offer every start, and what a search this one continues had found."""
    for name, x in starts.items():
        error = run.offer(x)
        if not run.tried(name):
            run.report(0, name, float(error.mean()), run.value)
    if run.before is not None:
        run.offer(run.before)
