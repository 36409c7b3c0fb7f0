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
from qroar_core.transforms.registry import kinds
from qroar_core.transforms.result import ModelIdentity, ScalesFile
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
        quantization=written(quant),
        mode=scales.mode,
        granularity=scales.granularity,
        bands=list(scales.bands),
        g=scales.nested(),
        search=search or {},
        **tables_of(scales),
    )
    return content.model_copy(update={"version": content.written_as})


def tables_of(scales: Scales) -> dict[str, Any]:
    """What is there beside g, by the names of the kinds, as a file has it."""
    maps = [asdict(of) | {"matrix": scales.nested_as(one)} for of, one in zip(scales.groups, scales.maps, strict=True)]
    tables = {"angles": scales.nested_angles(), "maps": maps, "value_maps": scales.nested_value_maps()}
    tables["k_offset"] = scales.nested_k_offset()
    tables["polish"] = None if scales.polish is None else scales.polish.nested()
    return {name: table for name, table in tables.items() if table}


def content_scales(content: ScalesFile, n_layers: int, n_kv_heads: int) -> Scales:
    """Inverse of `to_file`, for a model with so many layers and KV heads.

    Raises:
        BadScales: tables that do not fit.
    """
    bands = tuple(content.bands)
    tables = {name: getattr(content, name) for name in content.kinds}
    return from_nested(content.g, content.mode, content.granularity, bands, n_layers, n_kv_heads, **tables)


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
        said = ", ".join(f"{kind.label} since version {kind.version}" for kind in kinds().values())
        raise BadScales(
            f"says version {content.version}, and what it has is of version {content.written_as} ({said})",
            where=where,
            do="give a file this software wrote",
        )
    geo = loaded.geometry
    try:
        scales = content_scales(content, geo.n_layers, geo.n_kv_heads)
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
