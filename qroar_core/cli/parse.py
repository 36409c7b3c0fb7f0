"""Option values that are lists, files or bands: what they mean, or one line on what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli.check_options import about
from qroar_core.errors import BadSpec
from qroar_core.plain_file import MIB, read_json, reason
from qroar_core.specs import BandSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel

AUTO = "auto"  # of --tie: groups are chosen on the model before the search


def lengths_of(text: str | None) -> tuple[int, ...]:
    """--lengths: context lengths, ascending."""
    if not text:
        return ()
    try:
        lengths = tuple(sorted({int(part) for part in text.split(",")}))
        if lengths[0] < 2:
            raise ValueError("a length below 2")
        return lengths
    except ValueError as error:
        raise BadSpec(f"not a list of lengths: {text!r}", where="--lengths", do="write for example 512,2048") from error


def layers_of(text: str | None) -> tuple[int, ...]:
    """--keep-layers: numbers of layers, counted from 0."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise BadSpec(
            f"not a list of layers: {text!r}", where="--keep-layers", do="write for example 0,1,29"
        ) from error


def bands_spec(options: dict[str, Any], default: BandSpec, loaded: LoadedModel) -> BandSpec:
    """--bands and --partition: how many bands, and how the model's RoPE pairs are split into them."""
    from qroar_core.interpolations.frequencies import bands_of

    bands = replace(default, partition=options.get("partition", "count"))
    if options.get("bands") is not None:
        bands = replace(bands, count=options["bands"])
    with about("--bands"):
        bands_of(loaded, bands)
    return bands


def bounds_of(text: str | None) -> tuple[tuple[float, float], ...] | None:
    """--bounds: low and high log2 of every band's scale."""
    if not text:
        return None
    try:
        return tuple((float(low), float(high)) for low, high in (pair.split(":") for pair in text.split(",")))
    except ValueError as error:
        raise BadSpec(f"not bounds: {text!r}", where="--bounds", do="write one low:high per band, -1:2,-1:2") from error


def longrope_file(path: str | None) -> dict[str, tuple[float, ...]]:
    """--longrope-file: LongRoPE's factor lists."""
    if path is None:
        return {}
    try:
        content = read_json(Path(path), MIB)
        known = {name: tuple(map(float, content[name])) for name in ("long_factor", "short_factor") if name in content}
        if "long_factor" not in known:
            raise ValueError("no long_factor in it")
        return known
    except (OSError, ValueError, TypeError) as error:
        raise BadSpec(
            f"cannot be read ({reason(error)})",
            where=f"--longrope-factors {path}",
            do="give a JSON with long_factor, a list of numbers",
        ) from error
