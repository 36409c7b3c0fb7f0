"""Make what a remedy needs: a remedy that changes parameters is a folder, and its `prepare.prepare` makes them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from qroar_core.members import folders_in
from qroar_core.models.loaded import LoadedModel
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.setting import Setting

PREPARED = folders_in(Path(__file__).parent / "methods")  # remedies that change parameters


def prepare(method: str, given: RemedyInputs) -> Prepared:
    """What a remedy puts in place of parameters; nothing where it is other quantizers. The model stays as it is."""
    if method not in PREPARED:
        return Prepared(given.quant)
    made: Prepared = import_module(f"qroar_core.remedies.methods.{method}.prepare").prepare(given)
    return made


def why_not(method: str, loaded: LoadedModel, setting: Setting) -> str:
    """Why a remedy does not go with this model under this setting; empty where it does."""
    if method not in PREPARED:
        return ""
    asked = getattr(import_module(f"qroar_core.remedies.methods.{method}.prepare"), "why_not", None)
    said: str = asked(loaded, setting) if asked else ""
    return said
