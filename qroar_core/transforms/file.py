"""scales.json <-> Scales, with the checks that keep scales off a model they were not made for."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadOutput, BadScales, QRoarError
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.models.geometry import Described
from qroar_core.models.patch import check_scales
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.specs.written import written
from qroar_core.transforms.result import GroupMap, ModelIdentity, ScalesFile
from qroar_core.transforms.scales import Scales, from_nested

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.loaded import LoadedModel


def identity_of(loaded: Described) -> ModelIdentity:
    """What a scales file says about its model."""
    geo = loaded.geometry
    return ModelIdentity(
        name=loaded.name,
        fingerprint=loaded.fingerprint,
        family=geo.family,
        layers=geo.n_layers,
        kv_heads=geo.n_kv_heads,
        head_dim=geo.head_dim,
        rotary_dim=geo.rotary_dim,
        pairing=geo.pairing,
        decoder_layers=list(geo.decoder_layers),
    )


def to_file(
    loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec, scales: Scales, search: dict | None = None
) -> ScalesFile:
    """The file's content; the specs are written as they are, so a run can be repeated from it."""
    content = ScalesFile(
        model=identity_of(loaded),
        rope=written(rope),
        quantization=asdict(quant),
        mode=scales.mode,
        granularity=scales.granularity,
        bands=list(scales.bands),
        g=scales.nested(),
        angles=scales.nested_angles(),
        maps=maps_of(scales),
        value_maps=scales.nested_value_maps(),
        search=search or {},
    )
    return content.model_copy(update={"version": content.written_as})


def maps_of(scales: Scales) -> list[GroupMap]:
    """The maps as a file has them."""
    return [
        GroupMap(first=of.first, last=of.last, still=of.still, rest=of.rest, matrix=scales.nested_as(one))
        for of, one in zip(scales.groups, scales.maps, strict=True)
    ]


def from_file(path: Path | str, loaded: Described) -> tuple[Scales, ScalesFile]:
    """Read scales for `loaded`.

    Raises:
        BadScales: unreadable, another version, another model, or a shape that does not fit.
    """
    content = ScalesFile.from_file(Path(path), BadScales)
    return scales_for(content, loaded, str(path)), content


def scales_for(content: ScalesFile, loaded: Described, where: str) -> Scales:
    """The scales of a file's content, checked against `loaded`; `where` is what a message calls the content.

    Raises:
        BadScales: another version, another model, or a shape that does not fit.
    """
    mine = identity_of(loaded)
    if content.model.fingerprint != mine.fingerprint:
        raise BadScales(
            f"made for {content.model.name} ({content.model.fingerprint}), "
            f"this model is {mine.name} ({mine.fingerprint})",
            where=where,
            do="search scales for this model",
        )
    if content.version != content.written_as:
        raise BadScales(
            "version 1 has scales alone, version 2 angles too, version 3 maps besides, version 4 value maps",
            where=where,
            do="give a file this software wrote",
        )
    geo = loaded.geometry
    try:
        scales = from_nested(
            content.g,
            content.mode,
            content.granularity,
            tuple(content.bands),
            geo.n_layers,
            geo.n_kv_heads,
            content.angles,
            content.maps,
            content.value_maps,
        )
        check_scales(loaded, scales)
    except BadScales as error:
        raise BadScales(error.what, where=where, do="give a file this software wrote") from error
    except RuntimeError as error:  # torch, of a table that holds no numbers
        raise BadScales("g is not a table of numbers", where=where, do="give a file this software wrote") from error
    return scales


def rope_from(block: dict[str, Any]) -> RopeSpec:
    """The RopeSpec a scales file was searched under.

    Raises:
        BadScales: keys or values this version does not know.
    """
    try:
        return rope_of_block(block)
    except (TypeError, QRoarError) as error:
        raise BadScales(f"its rope block is not understood ({error})", do="name --rope and --factor") from error


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing.

    Raises:
        BadOutput: the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path.name))
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise BadOutput(
            error.strerror or "cannot be written", where=str(path), do="free some room or choose another folder"
        ) from error
    finally:  # also after a Ctrl-C
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def temporary_prefix(name: str) -> str:
    """How the half-written file of `name` begins, until it is whole; a kill -9 leaves one behind."""
    return f".{name}-"
