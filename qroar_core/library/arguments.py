"""What the library's functions are given, checked and filled in for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qroar_core.checks import of_kind
from qroar_core.errors import BadSpec
from qroar_core.library.transform import Transform
from qroar_core.models.loaded import LoadedModel
from qroar_core.setting import Setting
from qroar_core.setup import Setup
from qroar_core.transforms.scales import Scales


def resolved(model: LoadedModel, setup: Setup) -> Setting:
    """Everything that decides the numbers of a stage; raises BadSpec where either is of another kind."""
    of_kind("model", model, LoadedModel, "a loaded model", 'give what qroar.load("demo") returns')
    of_kind("setup", setup, Setup, "a setup", "give qroar.Setup(...)")
    return setup.resolve(model)


def scales_of(transform: Transform | None, model: LoadedModel) -> Scales | None:
    """The tensors of a transform; raises BadSpec where it is none, BadScales where it is another model's."""
    if transform is None:
        return None
    of_kind("transform", transform, Transform, "a transform", "give what a search found, or qroar.Transform.load(path)")
    return transform.scales(model)


def several(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """A list as a tuple; raises BadSpec where it is one value."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadSpec(f"{name} must be a list, got {values!r}", do=f"give {name}=[{values!r}]")
    return tuple(values)
