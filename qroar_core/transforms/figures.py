"""The figures of a transform: what the `figure.py` of each kind draws."""

from __future__ import annotations

from importlib import import_module

from qroar_core.figures.picture import Picture
from qroar_core.transforms.registry import kinds
from qroar_core.transforms.result import ScalesFile


def figures_of(scales: ScalesFile) -> dict[str, Picture]:
    """Kind's name -> its picture, of the kinds that this transform has."""
    drawn = {name: import_module(f"qroar_core.transforms.kinds.{name}.figure").FIGURE(scales) for name in kinds()}
    return {name: picture for name, picture in drawn.items() if picture is not None}
