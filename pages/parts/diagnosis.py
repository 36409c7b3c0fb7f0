"""Which pictures the Diagnose page shows, in tabs."""

from __future__ import annotations

from qroar_core.figures import Picture
from qroar_core.results import Diagnosis


def pictures(diagnosis: Diagnosis) -> dict[str, list[Picture | None]]:
    """Tab name -> pictures, in the order of DESIGN section 3."""
    return {"Pressure": []}
