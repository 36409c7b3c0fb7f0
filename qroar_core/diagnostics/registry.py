"""Every diagnostic: the folders beside this file, found by themselves. Nothing else lists them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from qroar_core.diagnostics.diagnostic import Diagnostic
from qroar_core.members import folders_in, members_of, names_in

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


def part_of(name: str, file: str, attribute: str) -> Any:
    """`attribute` of a file in the folder of a diagnostic."""
    return getattr(import_module(f"{_PACKAGE}.{name}.{file}"), attribute)


def figures_of(name: str) -> dict[str, Any]:
    """What the `FIGURES` of a diagnostic's files figure*.py say: a figure's name -> what draws it."""
    files = [file for file in names_in(_HERE / name) if file.startswith("figure")]
    found: dict[str, Any] = {}
    for file in files:
        found |= getattr(import_module(f"{_PACKAGE}.{name}.{file}"), "FIGURES", {})
    return found
