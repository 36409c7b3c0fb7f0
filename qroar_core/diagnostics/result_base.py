"""What the result of a diagnostic says of itself, where `Diagnosis` has no field of its own for it."""

from __future__ import annotations

from abc import abstractmethod

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import Result


class DiagnosticResult(Result):
    """A result that `Diagnosis.others` keeps."""

    sample: Sample  # what it was counted on

    @property
    @abstractmethod
    def finding(self) -> str:
        """One sentence, as the command line prints it."""

    @abstractmethod
    def null_rows(self) -> list[NullRow]:
        """Its quantities beside their nulls."""
