"""What a person may ask for: frozen, hashable, validated at construction. Specs are the cache keys.

Units: lengths in tokens, `factor` is the PI scale s (dimensionless), bits per stored number.
Names follow DESIGN.md section 7; the command line's options spell these fields.
"""

from qroar_core.specs.evidence import CONTROL_DTYPES, ControlSpec, ReplicationSpec
from qroar_core.specs.league import METHODS, LeagueSpec, Method
from qroar_core.specs.outliers import OUTLIER_PARAMETERS, OutlierRule
from qroar_core.specs.quant import Levels, QuantizerSpec, QuantSpec, ScaleAxis, ScaleDtype, WeightQuantSpec
from qroar_core.specs.rope import METHOD_NAMES, RopeMethod, RopeSpec
from qroar_core.specs.stages import (
    BANDS,
    JUDGES,
    BandSpec,
    ContinuationSpec,
    DiagnosisSpec,
    DistanceLaw,
    EvaluationSpec,
    Granularity,
    Judge,
    Mode,
    Objective,
    Partition,
    PredictionSpec,
    RetrievalSpec,
    RetrievalTask,
    SearchSpec,
)
from qroar_core.specs.texts import Bos

__all__ = [
    "BANDS",
    "CONTROL_DTYPES",
    "JUDGES",
    "METHODS",
    "METHOD_NAMES",
    "OUTLIER_PARAMETERS",
    "BandSpec",
    "Bos",
    "ContinuationSpec",
    "ControlSpec",
    "DiagnosisSpec",
    "DistanceLaw",
    "EvaluationSpec",
    "Granularity",
    "Judge",
    "LeagueSpec",
    "Levels",
    "Method",
    "Mode",
    "Objective",
    "OutlierRule",
    "Partition",
    "PredictionSpec",
    "QuantSpec",
    "QuantizerSpec",
    "ReplicationSpec",
    "RetrievalSpec",
    "RetrievalTask",
    "RopeMethod",
    "RopeSpec",
    "ScaleAxis",
    "ScaleDtype",
    "SearchSpec",
    "WeightQuantSpec",
]
