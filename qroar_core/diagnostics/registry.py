"""Every diagnostic: the folders beside this file, found by themselves. Nothing else lists them.

It imports what they say of themselves, and none of their files: `result_types`, `assemble` and `figures` find those.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from qroar_core.diagnostics.diagnostic import Diagnostic
from qroar_core.members import folders_in, members_of

_HERE = Path(__file__).parent
_PACKAGE = "qroar_core.diagnostics"


@cache
def diagnostics() -> dict[str, Diagnostic]:
    """Folder's name -> diagnostic, in the order of lists."""
    return members_of(_PACKAGE, folders_in(_HERE), "DIAGNOSTIC")


def on_page(page: str) -> dict[str, Diagnostic]:
    """Those that a page of the dashboard shows."""
    return {name: one for name, one in diagnostics().items() if one.page == page}


def parts_of(name: str) -> tuple[str, ...]:
    """What `Diagnosis.null_rows` knows a diagnostic by: its fields, or its own name where it fills none."""
    return diagnostics()[name].fields or (name,)


def others() -> tuple[str, ...]:
    """Those that fill no field of `Diagnosis`."""
    return tuple(name for name, one in diagnostics().items() if not one.fields)
