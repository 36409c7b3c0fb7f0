"""The grids of levels that runtimes round to: one file a set of levels, found by itself; its name is `spec.levels`."""

from __future__ import annotations

from pathlib import Path

from qroar_core.members import members_of, names_in
from qroar_core.quantizers.grid import LevelSet

GRIDS: dict[str, LevelSet] = members_of(__name__, names_in(Path(__file__).parent), "LEVELS")
