"""KIVI changes no parameter; its groups of V's channels must divide a head."""

from __future__ import annotations

from qroar_core.models.loaded import LoadedModel
from qroar_core.remedies.methods.kivi import KIVI
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.setting import Setting


def why_not(loaded: LoadedModel, setting: Setting) -> str:
    """Where V's heads hold no whole groups."""
    size, group = loaded.geometry.value_dim, KIVI.v.group_size or 1
    if setting.quant.v is not None and size % group:
        return f"groups of {group} channels do not divide value heads of {size}"
    return ""


def prepare(given: RemedyInputs) -> Prepared:
    """The checkpoint's own parameters."""
    return Prepared(given.quant)
