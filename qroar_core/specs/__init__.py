"""What a person may ask for: frozen, hashable, validated at construction. Specs are the cache keys.

Units: lengths in tokens, `factor` is the PI scale s (dimensionless), bits per stored number.
Names follow docs/method.md section 7; the command line's options spell these fields.
"""

from qroar_core.interpolations.spec import ROPE_METHODS, RopeSpec
from qroar_core.quantizers.spec import QuantizerSpec, QuantSpec, ScaleAxis, ScaleDtype, WeightQuantSpec
from qroar_core.specs.evidence import CONTROL_DTYPES, ControlSpec, ReplicationSpec
from qroar_core.specs.harness import HarnessSpec
from qroar_core.specs.outliers import OUTLIER_RULES, OutlierRule
from qroar_core.specs.remedies import REMEDIES, REMEDIES_FORMERLY, ComparisonSpec, todays_remedy
from qroar_core.specs.rope_search import RopeSearchSpec
from qroar_core.specs.stages import (
    BANDS,
    ERROR_METRICS,
    OBJECTIVES,
    SEARCH_METHODS,
    BandSpec,
    ContinuationSpec,
    DiagnosisSpec,
    DistanceLaw,
    EvaluationSpec,
    Granularity,
    Mode,
    Partition,
    PredictionSpec,
    RetrievalSpec,
    RetrievalTask,
    Sampler,
    SearchSpec,
)
from qroar_core.specs.texts import Bos

__all__ = [
    "BANDS",
    "CONTROL_DTYPES",
    "ERROR_METRICS",
    "OBJECTIVES",
    "OUTLIER_RULES",
    "REMEDIES",
    "REMEDIES_FORMERLY",
    "ROPE_METHODS",
    "SEARCH_METHODS",
    "BandSpec",
    "Bos",
    "ComparisonSpec",
    "ContinuationSpec",
    "ControlSpec",
    "DiagnosisSpec",
    "DistanceLaw",
    "EvaluationSpec",
    "Granularity",
    "HarnessSpec",
    "Mode",
    "OutlierRule",
    "Partition",
    "PredictionSpec",
    "QuantSpec",
    "QuantizerSpec",
    "ReplicationSpec",
    "RetrievalSpec",
    "RetrievalTask",
    "RopeSearchSpec",
    "RopeSpec",
    "Sampler",
    "ScaleAxis",
    "ScaleDtype",
    "SearchSpec",
    "WeightQuantSpec",
    "todays_remedy",
]
