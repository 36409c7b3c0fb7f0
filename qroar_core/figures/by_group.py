"""Figures of a diagnosis by name, and those that are drawn for each group of layers that turns alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.picture import Picture
from qroar_core.specs.labels import capital

Draw = Callable[[Diagnosis], list[Picture | None]]


def views(diagnosis: Diagnosis) -> list[tuple[str, Diagnosis]]:
    """Name and view of every group of layers that turns; one without a name where layers are alike."""
    turning = [index for index, group in enumerate(diagnosis.groups) if group.bands]
    return [(diagnosis.groups[i].name, diagnosis.of_group(i)) for i in turning] or [("", diagnosis)]


def of_frequencies(draw: Callable[[Diagnosis], Picture | None]) -> Draw:
    """A picture of what frequencies decide, of every group that turns."""
    return lambda diagnosis: [_titled(draw(view), name) for name, view in views(diagnosis)]


def each_group(draw: Callable[[Diagnosis], Picture | None]) -> Draw:
    """A picture of what is pooled over layers, of every group that turns; one where the file pools all layers."""

    def drawn(diagnosis: Diagnosis) -> list[Picture | None]:
        apart = all(group.noise is not None for group in diagnosis.groups)
        return [_titled(draw(view), name) for name, view in (views(diagnosis) if apart else [("", diagnosis)])]

    return drawn


def _titled(picture: Picture | None, name: str) -> Picture | None:
    if picture is None or not name:
        return picture
    return replace(picture, title=f"{capital(name)}: {picture.title}")
