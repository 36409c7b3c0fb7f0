"""Every remedy that a comparison measures: one file each, found by itself; its name is what `--methods` takes."""

from __future__ import annotations

from qroar_core.members import members_of
from qroar_core.remedies.remedy import Remedy
from qroar_core.specs import REMEDIES

BY_NAME: dict[str, Remedy] = members_of(__name__, REMEDIES, "REMEDY")
