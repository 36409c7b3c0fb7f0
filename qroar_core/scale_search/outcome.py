"""The scales that came out of a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from qroar_core.scale_search.result import SearchReport
from qroar_core.scale_search.state import AdamState
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True, eq=False)
class SearchOutcome:
    """`kept` is `found` only where development text shows a gain; `smooth` and `mad` are the statistics-only baselines.

    `state` is where the gradient method stood when it was cancelled, so that it can go on exactly there.
    """

    found: Scales
    kept: Scales
    smooth: Scales
    mad: Scales
    report: SearchReport
    state: AdamState | None = None

    def as_written(self) -> Self:
        """What its files give back: the scales to the last bit, the report's numbers rounded."""
        return replace(self, report=self.report.as_written())
