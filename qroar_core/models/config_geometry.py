"""The geometry of a checkpoint by its config alone: no weight is read and nothing is fetched."""

from __future__ import annotations

from qroar_core.errors import BadCheckpoint
from qroar_core.models.checkpoint_files import check_files, has, table_in
from qroar_core.models.families import family_of
from qroar_core.models.geometry import Geometry
from qroar_core.models.load import read_config
from qroar_core.models.model_argument import typed_path
from qroar_core.models.sources import locate

BUILT_IN = ("demo", "smollm2")


def geometry_of(source: str) -> Geometry:
    """Sizes of a model's attention.

    Args:
        source: MODEL as a person types it: `demo`, `smollm2`, a folder or a GGUF file on this disk.
    Raises:
        BadCheckpoint: not on this disk, or it cannot be read. UnsupportedModel: an architecture no family knows.
    """
    if source not in BUILT_IN and not typed_path(source).exists():
        raise BadCheckpoint("is not on this disk", where=source, do="name its folder")
    found = locate(source)
    check_files(found.folder)
    if not has(found.folder, "config.json"):
        raise BadCheckpoint("no config.json", where=str(found.folder), do="give a Hugging Face model folder")
    config = read_config(found, table_in(found.folder / "config.json"))
    return family_of(config.architectures, found.label).geometry(config, 0)
