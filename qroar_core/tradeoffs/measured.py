"""What a sweep, or a folder of runs, measured: points by what they have in common, and what to know about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from qroar_core.errors import BadOutput, QRoarError
from qroar_core.evaluation.run import must_rotate
from qroar_core.models.config_geometry import geometry_of
from qroar_core.models.geometry import Geometry
from qroar_core.remedies.applicable import ROTATION
from qroar_core.remedies.layer_memory import cache_bytes
from qroar_core.remedies.methods import BY_NAME
from qroar_core.runs.record import read_record
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec
from qroar_core.specs.tradeoff import Loss
from qroar_core.tradeoffs.point import Point, SetupKey

geometry_at = lru_cache(maxsize=32)(geometry_of)


@dataclass(slots=True, eq=False)
class Measured:
    """Points of each setup in the order of the file, and sentences about what is not there.

    Args:
        sources: model of a point's setup -> what to load for it.
    """

    loss: Loss
    points: dict[SetupKey, list[Point]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    where: str = ""

    def note(self, said: str) -> None:
        """Say it once."""
        if said not in self.notes:
            self.notes.append(said)


def setting_of(run: Path | None) -> tuple[Setting, str]:
    """What a run was made with, and the model to load for it.

    Raises:
        BadOutput: no folder, or one that cannot be read.
    """
    if run is None:
        do = "name the folder that keeps its cells with --cells"
        raise BadOutput("its run folder is not on this disk", where="the point", do=do)
    entry = read_record(run, thorough=False)
    if entry.setting is None:
        raise BadOutput(entry.problem, where=str(run), do="name another folder with --cells")
    return entry.setting, entry.source


def quant_under(quant: QuantSpec, remedy: str, kept_layers: tuple[int, ...] = ()) -> QuantSpec:
    """The quantizers that the cache has with a remedy of a sweep's words."""
    if quant.is_none:
        return quant
    if remedy == ROTATION:
        return must_rotate(quant)
    under = BY_NAME[remedy].under(quant) if remedy in BY_NAME else None
    return replace(under or quant, keep_layers=kept_layers or quant.keep_layers)


def at_length(found: Measured, length: int) -> Measured:
    """The same points with the bytes that a token takes at another context: layers that see a window hold less of it.

    Of a model that is not on this disk the bytes stay those of the measured length, and a note says so.
    """
    other = Measured(found.loss, {}, list(found.notes), found.where)
    for key, points in found.points.items():
        other.points[key] = points
        if key.length == length:
            continue
        try:
            geometry = _geometry(points)
            if any(geometry.windows):
                other.points[key] = [_resized(one, geometry, length) for one in points]
        except QRoarError as problem:
            other.note(
                f"Whether layers of {key.model} see a window only is not known here ({problem.what}): the bytes of a "
                f"token are those at {key.length:,} tokens"
            )
    return other


def _geometry(points: list[Point]) -> Geometry:
    """Of the model that these points are of.

    Raises:
        QRoarError: no point has its run folder here, or the model is not on this disk.
    """
    run = next((one.run for one in points if one.run is not None), None)
    return geometry_at(setting_of(run)[1])


def _resized(point: Point, geometry: Geometry, length: int) -> Point:
    quant = quant_under(setting_of(point.run)[0].quant, point.remedy, point.kept_layers)
    return replace(point, bytes_per_token=cache_bytes(geometry, quant if point.quantized else QuantSpec(), length))
