"""A search whose scales are judged elsewhere: guarded, but without the decision whether they are kept.

The decision reads sixteen windows. Who compares the scales of many searches on windows of their own needs none of it.
"""

from __future__ import annotations

import math

from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, ignore
from qroar_core.results import Diagnosis
from qroar_core.results.decision import Decision
from qroar_core.searching.course import Course
from qroar_core.searching.frame import Frame
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec


def seek(loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec, spec: SearchSpec, texts: Texts,
         diagnosis: Diagnosis | None = None, on_step: OnStep = ignore) -> Scales:  # fmt: skip
    """What `search.run` finds, without its decision: identity where scales cannot act or the guard rejects them.

    Args:
        texts: documents of "calibration" and "development".
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer.
    """
    with loaded.lock:
        return _Undecided(Frame(loaded, rope, quant, spec, texts), on_step, None).outcome(diagnosis).found


class _Undecided(Course):
    def bare(self) -> float:
        return math.nan  # nobody reads the report

    def decide(self, found: Scales) -> tuple[Scales, str, Decision | None]:
        return found, "not asked", None
