"""The figures of a diagnostic: what the `FIGURES` of its files figure*.py say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from qroar_core.figures.by_group import Draw
from qroar_core.members import names_in


def figures_of(name: str) -> dict[str, Draw]:
    """A figure's name -> what draws it, of the diagnostic of this name."""
    files = names_in(Path(__file__).parent / name)
    found: dict[str, Draw] = {}
    for rest in [file.removeprefix("figure") for file in files if file.startswith("figure")]:
        found |= getattr(import_module(f"qroar_core.diagnostics.{name}.figure{rest}"), "FIGURES", {})
    return found
