"""How the format of a point is served: the command that writes the checkpoint, and each runtime's with this cache."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qroar_core.exporters.cache_scales import reads_scales
from qroar_core.exporters.reader import Exported, Recipe, Served
from qroar_core.exporters.readers import recipes
from qroar_core.exporters.recipe import FROM_CHECKPOINT
from qroar_core.interpolations.rope_file import rope_text
from qroar_core.interpolations.tie import ties_text
from qroar_core.models.family_preset import for_family
from qroar_core.models.own_rope import exported_context
from qroar_core.remedies.applicable import ROTATION
from qroar_core.remedies.methods import BY_NAME
from qroar_core.runs.folder import has
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.tradeoffs.measured import geometry_at, quant_under, setting_of
from qroar_core.tradeoffs.point import NO_REMEDY, Point

CHECKPOINT = Path("checkpoint")  # what the commands call the folder that is written
FORMAT = "hf"
ROPE_FILE = "rope.json"
SEARCHED = "scales"  # how a remedy that a run searches begins
KEEPS = ("protected_layers", "first_last_layers")  # remedies that are a choice of layers


@dataclass(frozen=True, slots=True)
class Serving:
    """How a point is served.

    Args:
        export: the command that writes the checkpoint; empty where there is none.
        recipes: runtime -> how it is started with that checkpoint and this cache.
        notes: what to know first. rope_file: content of rope.json where the command reads one.
    """

    export: str
    recipes: Mapping[str, Recipe]
    notes: tuple[str, ...] = ()
    rope_file: str = ""


def serving_of(point: Point, length: int) -> Serving:
    """The commands that serve what this point measured, for a context of `length` tokens.

    Raises:
        QRoarError: its run folder, or its model, is not on this disk.
    """
    setting, source = setting_of(point.run)
    geometry = geometry_at(source)
    quant = QuantSpec()
    if point.quantized:
        quant = for_family(quant_under(setting.quant, point.remedy, point.kept_layers), geometry.family)
    scaled = reads_scales(quant, FORMAT)
    export, notes, rope_file = _export(point, source, setting.rope, scaled)
    promised = length  # by the checkpoint itself, where it is not interpolated
    if setting.rope.method != "default":
        promised = exported_context(geometry.original_context, geometry, setting.rope)
    if length > promised:
        notes.append(f"The interpolation reaches {promised:,} tokens, so no more are served here: raise its factor")
    served = Served(
        path=CHECKPOINT,
        export=Exported(FORMAT, cache_scales=scaled),
        rope=setting.rope,
        native=geometry.original_context,
        head_dim=geometry.head_dim,
        pairing=geometry.pairing,
        length=min(length, promised),
        quant=quant,
    )
    return Serving(export, recipes(served), tuple(notes), rope_file)


def _export(point: Point, source: str, rope: RopeSpec, scaled: bool) -> tuple[str, list[str], str]:
    """The command, what to know about it, and the interpolation as a file where no option says all of it."""
    remedy = point.remedy
    if remedy in BY_NAME and remedy != ROTATION and remedy not in KEEPS:
        about = BY_NAME[remedy]
        said = f"No checkpoint with {about.name} is written here; it asks of the runtime: {about.runtime_change}"
        return "", [said], ""
    notes, rope_file = [], ""
    words = ["export", source]
    if remedy.startswith(SEARCHED) and point.run is not None and has(point.run, "scales.json"):
        words += ["--scales", str(point.run / "scales.json")]
    elif rope.method != "default":
        if rope != RopeSpec(rope.method, rope.factor, tie=rope.tie):
            words, rope_file = [*words, "--rope", ROPE_FILE], rope_text(rope)
            notes.append(f"No option says all of this interpolation: it is read from {ROPE_FILE}")
        else:
            words += ["--rope", rope.method, "--factor", f"{rope.factor:g}"]
            words += ["--tie", ties_text(rope.tie)] if rope.tie else []
    if scaled:
        words += ["--cache-scales", "--kv", FROM_CHECKPOINT]
    if remedy == ROTATION:
        notes.append(f"The runtime has to rotate q and k: {BY_NAME[ROTATION].runtime_change}")
    elif remedy not in (NO_REMEDY, *KEEPS) and "--scales" not in words:
        notes.append("The scales of this point are not in its run folder: this exports the interpolation alone")
    return shlex.join(["python", "-m", "qroar_core", *words, "--out", str(CHECKPOINT)]), notes, rope_file
