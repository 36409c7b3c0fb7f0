"""A search whose scales are judged elsewhere: guarded, but without the decision whether they are kept.

The decision reads sixteen windows. Who compares the scales of many searches on windows of their own needs none of it.
"""

from __future__ import annotations

import math

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, no_progress
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.runner import SearchRunner
from qroar_core.setting import Setting
from qroar_core.transforms.scales import Scales


def find_scales(
    loaded: LoadedModel,
    setting: Setting,
    texts: Texts,
    diagnosis: Diagnosis | None = None,
    on_step: OnStep = no_progress,
) -> Scales:
    """What `run.run` finds, without its decision: identity where scales cannot act or the guard rejects them.

    Args:
        texts: documents of "calibration" and "development".
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer.
    """
    problem = SearchProblem.of(loaded, setting, texts)
    with loaded.lock:
        return _Undecided(problem, on_step, None).outcome(diagnosis).found


class _Undecided(SearchRunner):
    def bare(self) -> float:
        return math.nan  # nobody reads the report

    def decide(self, found: Scales) -> tuple[Scales, str, Decision | None]:
        return found, "not asked", None
