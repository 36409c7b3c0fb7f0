"""Put scales into the loaded weights, or take them out again, in turn with every other job."""

from __future__ import annotations

from pages.parts.session import manager
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.progress import OnStep, Step


def key(loaded: LoadedModel) -> tuple:
    """One change at a time per model."""
    return ("patch", loaded.fingerprint)


def start(loaded: LoadedModel, scales: Scales | None) -> tuple:
    """Queue applying `scales` to the loaded weights, or undoing what is applied; returns the key."""
    mine, device = key(loaded), str(loaded.device)
    manager().submit(mine, _patch, loaded, scales, label=f"Change {loaded.name}'s weights", device=device, again=True)
    return mine


def _patch(loaded: LoadedModel, scales: Scales | None, on_step: OnStep) -> None:
    on_step(Step("patch", 0, 1, "swap weights"))
    undo_scales(loaded) if scales is None else apply_scales(loaded, scales)
