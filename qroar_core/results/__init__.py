"""What the stages hand over and what a run folder holds: pydantic models, JSON on disk, no torch.

A result read back from its file draws the same figures as one just computed.
"""

from qroar_core.results.continuations import Continuations
from qroar_core.results.diagnosis import Diagnosis
from qroar_core.results.evaluation import Evaluation
from qroar_core.results.manifest import Manifest
from qroar_core.results.scales import ScalesFile
from qroar_core.results.search import SearchReport

__all__ = ["Continuations", "Diagnosis", "Evaluation", "Manifest", "ScalesFile", "SearchReport"]
