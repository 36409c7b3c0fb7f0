"""diagnosis.json. (The diagnose stage fills this in.)"""

from __future__ import annotations

from qroar_core.results.base import Result


class Diagnosis(Result):
    """Placeholder until the diagnose stage lands in this session."""
