"""What the library's functions are given, checked and filled in for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from qroar_core.checks import briefly, of_kind
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.result_measured import MeasuredOn
from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.library.transform import Transform
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.setting import Setting
from qroar_core.setup import Setup
from qroar_core.transforms.scales import Scales

Asked = TypeVar("Asked")


def resolved(model: LoadedModel, setup: Setup, on_step: OnStep) -> Setting:
    """Everything that decides the numbers of a stage; raises BadSpec where one of the three is of another kind."""
    check_on_step(on_step)
    of_kind("model", model, LoadedModel, "a loaded model", 'give what qroar.load("demo") returns')
    of_kind("setup", setup, Setup, "a setup", "give qroar.Setup(...)")
    return setup.resolve(model)


def check_on_step(on_step: OnStep) -> None:
    """Raises BadSpec where it cannot be called."""
    if not callable(on_step):
        do = "give a function of one step, or leave it out"
        raise BadSpec(f"on_step must be a function, got {briefly(on_step)}", do=do)


def scales_of(transform: Transform | None, model: LoadedModel) -> Scales | None:
    """The tensors of a transform; raises BadSpec where it is none, BadScales where it is another model's."""
    if transform is None:
        return None
    of_kind("transform", transform, Transform, "a transform", "give what a search found, or qroar.Transform.load(path)")
    return transform.scales(model)


def check_diagnosis(diagnosis: Diagnosis | None, model: LoadedModel, setting: Setting) -> None:
    """Raises BadSpec unless a diagnosis is of this model under this interpolation, quantizer and bands."""
    if diagnosis is None:
        return
    of_kind("diagnosis", diagnosis, Diagnosis, "a diagnosis", "give what qroar.diagnose returns")
    was, now = diagnosis.measured, MeasuredOn.of(model.name, model.fingerprint, setting.rope, setting.quant)
    bands = [(band.first_pair, band.last_pair) for band in diagnosis.bands]
    if was is None:
        problem = "its file is of an older version and does not name its model"
    elif was.fingerprint != now.fingerprint:
        problem = f"it is of {was.model} ({was.fingerprint}), this model is {now.model} ({now.fingerprint})"
    elif was.rope != now.rope:
        problem = "it was measured under another interpolation than this setup's"
    elif was.quantization != now.quantization:
        problem = "it was measured under other quantizers than this setup's"
    elif bands != list(bands_of(model, setting.search.bands)):
        problem = "its frequency bands are not the search's"
    else:
        return
    raise BadSpec(problem, where="search(diagnosis=...)", do="diagnose this model under this setup, or leave it out")


def spec_of(spec: Asked | None, kind: type[Asked]) -> Asked | None:
    """What is given as `spec=`; raises BadSpec where it is of another kind."""
    if spec is not None:
        of_kind("spec", spec, kind, f"a qroar_core.specs.{kind.__name__}", "give one, or leave it out")
    return spec


def several(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """A list as a tuple; raises BadSpec where it is one value."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadSpec(f"{name} must be a list, got {values!r}", do=f"give {name}=[{values!r}]")
    return tuple(values)
