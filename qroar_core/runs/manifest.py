"""manifest.json: what made a run, so that it can be repeated and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import ValidationError

from qroar_core.result import Result
from qroar_core.result_shapes import axes
from qroar_core.transforms.result import ModelIdentity

CHECKSUM_COVERS = 2  # raised where models.checksum takes in more: the same model then has another checksum
SAFE = 2**53  # of a setting: what a browser can hold exactly
LONGEST = 1e10  # seconds of a stage


class Manifest(Result):
    """Versions, specs, seed, model fingerprint, device and wall seconds per stage."""

    versions: dict[str, str]
    command: str
    model: dict[str, Any]
    specs: Annotated[dict[str, Any], axes(least=-SAFE, most=SAFE)]
    seed: int
    device: str
    dtype: str
    text: str
    stages: dict[str, float] = {}  # finished stage -> wall seconds
    source: str = ""  # what to load: the model as it was asked for
    replaces: str = ""  # the checkpoint's own interpolation, where the run's takes its place
    checksum: str = ""  # of weights, config and tokenizer; "" from before 2026-11-28: a sample of the weights was known
    covers: Annotated[int, axes(least=1)] = (
        1  # what the checksum is taken over; 1: not special tokens and chat template
    )
    date: str = ""  # when the run was begun, ISO 8601, UTC

    @property
    def identity(self) -> str:
        """The checksum, "" where it is of an older version and says nothing beside those of today."""
        return self.checksum if self.covers == CHECKSUM_COVERS else ""

    def contradictions(self) -> Iterator[str]:
        """A model that is none; what is asked of it is checked with its setting."""
        try:
            yield from ModelIdentity.model_validate(self.model).contradictions()
        except ValidationError as problem:
            first = problem.errors()[0]
            yield f"model.{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        if any(not 0 <= seconds <= LONGEST for seconds in self.stages.values()):
            yield "stages: seconds below 0, or of centuries"
