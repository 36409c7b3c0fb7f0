"""Every remedy that a comparison measures: one file or folder each, found by itself, whose name `--methods` takes.

Menus list them without torch: the maths of a remedy that changes parameters is in the `prepare.py` of its folder.
"""

from __future__ import annotations

from qroar_core.members import members_of
from qroar_core.remedies.remedy import Remedy
from qroar_core.specs import REMEDIES

BY_NAME: dict[str, Remedy] = members_of(__name__, REMEDIES, "REMEDY")
