"""What a person may ask for: frozen, hashable, validated at construction. Specs are the cache keys.

Units: lengths in tokens, `factor` is the PI scale s (dimensionless), bits per stored number.
Names follow DESIGN.md section 7; the command line's options spell these fields.
"""

from qroar_core.specs.quant import Levels, QuantizerSpec, QuantSpec, ScaleAxis, ScaleDtype, WeightQuantSpec
from qroar_core.specs.rope import METHOD_NAMES, RopeMethod, RopeSpec
from qroar_core.specs.stages import (
    BandSpec,
    ContinuationSpec,
    DiagnosisSpec,
    DistanceLaw,
    EvaluationSpec,
    Granularity,
    Mode,
    Objective,
    Partition,
    RetrievalSpec,
    RetrievalTask,
    SearchSpec,
)

__all__ = [
    "METHOD_NAMES",
    "BandSpec",
    "ContinuationSpec",
    "DiagnosisSpec",
    "DistanceLaw",
    "EvaluationSpec",
    "Granularity",
    "Levels",
    "Mode",
    "Objective",
    "Partition",
    "QuantSpec",
    "QuantizerSpec",
    "RetrievalSpec",
    "RetrievalTask",
    "RopeMethod",
    "RopeSpec",
    "ScaleAxis",
    "ScaleDtype",
    "SearchSpec",
    "WeightQuantSpec",
]
