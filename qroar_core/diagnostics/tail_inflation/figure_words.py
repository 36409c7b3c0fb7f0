"""What titles and captions of the tails say of their null, and what native means in the table."""

from __future__ import annotations

from qroar_core.diagnostics.result import Diagnosis

SWAPPED, ASSIGNED = "with sides swapped", "with windows assigned to sides at random"
ENOUGH = 6  # windows: their sides are swapped 64 ways, so that the measured one can be among the outer 5 %
ENOUGH_UNPAIRED = 4  # windows of either side: halves of 8 are chosen 70 ways
UNPAIRED = ("long and short windows assigned", "long and short windows dealt")  # dealt: as older files say it


def null_reading(diagnosis: Diagnosis, of_cell: bool = False) -> str:
    """What the null is, in one sentence, and what it cannot show."""
    if any(table.null is None for table in diagnosis.tails.values()):
        return "This file holds no null."
    least = enough(diagnosis)
    few = f" With fewer than {least} windows no cell can lie outside it." if diagnosis.windows < least else ""
    ways = "swap the long and the short side of windows"
    where = "the long and the short side of windows are swapped"
    if _unpaired(diagnosis):
        ways, where = "assign windows to the two sides", "windows are assigned to the two sides at random"
    if of_cell:
        return (
            f"The grey band is the null: from the orange diamond on, the ratios that 95 % of the ways to {ways} "
            f"give, that is, if length changes nothing.{few}"
        )
    return (
        f"A cross marks cells inside the null, the 95 % range of their ratio where {where}, that is, if length "
        f"changes nothing.{few}"
    )


def over_native(diagnosis: Diagnosis) -> str:
    """What native means in the table, where it is."""
    if not any(table.native for table in diagnosis.tails.values()):
        return ""
    return (
        "over_native_rope in the table: long under this interpolation over short under native RoPE, that is without "
        "any interpolation, the checkpoint's own included. "
    )


def _unpaired(diagnosis: Diagnosis) -> bool:
    null = next(iter(diagnosis.tails.values())).null
    return null is not None and null.control.startswith(UNPAIRED)


def control(diagnosis: Diagnosis) -> str:
    """What the null does with windows, in a few words."""
    return ASSIGNED if _unpaired(diagnosis) else SWAPPED


def enough(diagnosis: Diagnosis) -> int:
    """Windows from which on a cell can lie outside the null."""
    return ENOUGH_UNPAIRED if _unpaired(diagnosis) else ENOUGH


def windows_read(diagnosis: Diagnosis) -> str:
    """Which tokens are compared."""
    if _unpaired(diagnosis):
        return "Tokens deep in the long context, and others at the end of short ones."
    return "The same tokens read twice, deep in the long context and at the end of a short one."
