"""A search whose scales are judged elsewhere: guarded, but not proven on held-out text.

The proof reads sixteen windows. Who compares the scales of many searches on windows of their own needs none of it.
"""

from __future__ import annotations

import math

from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, ignore
from qroar_core.results import Diagnosis
from qroar_core.searching.course import Course
from qroar_core.searching.frame import Frame
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec


def seek(loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec, spec: SearchSpec, texts: Texts,
         diagnosis: Diagnosis | None = None, on_step: OnStep = ignore) -> Scales:  # fmt: skip
    """What `search.run` finds, without its proof: identity where scales cannot act or the guard rejects them.

    Args:
        texts: documents of "calibration" and "development".
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer.
    """
    with loaded.lock:
        return _Unproven(Frame(loaded, rope, quant, spec, texts), on_step, None).outcome(diagnosis).found


class _Unproven(Course):
    def bare(self) -> float:
        return math.nan  # nobody reads the report

    def prove(self, found: Scales) -> tuple[Scales, str]:
        return found, "not asked"
