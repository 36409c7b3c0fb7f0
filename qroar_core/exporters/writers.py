"""Which writer a format has, and for which models. A writer is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec
from qroar_core.exporters.formats import FORMATS, writer_name, written_by

if TYPE_CHECKING:
    import torch

    from qroar_core.exporters.cache_scales import CacheScales
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Documents
    from qroar_core.specs import RopeSpec
    from qroar_core.transforms.scales import Scales


def writer_of(
    format: str,
    *,
    group_size: int | None = None,
    dtype: torch.dtype | None = None,
    cache_scales: CacheScales | None = None,
) -> Callable[..., Path]:
    """`write(loaded, rope, scales, folder, command=..., on_step=...)` of a loaded model in this format.

    Args:
        group_size: inputs of a row that share a scale, where the format takes it.
        dtype: the number format of the weights, where the format takes it; None keeps the checkpoint's own.
        cache_scales: see `cache_scales_of`, where the format holds them.
    Raises:
        BadSpec: an unknown format.
    """
    ways = [name for name in FORMATS if name not in written_by("gguf_copy")]  # that one edits a file, not a model
    if format in FORMATS and format not in ways:
        raise BadSpec(
            f"{format} edits a .gguf file, and this writes a loaded model",
            where="format",
            do=f"choose one of {', '.join(written_by('gguf_write'))}, or run `qroar export FILE --format {format}`",
        )
    if format not in ways:
        raise BadSpec(f"unknown format {format!r}", where="format", do=f"choose one of {', '.join(ways)}")
    about, options = FORMATS[format], dict[str, Any]()
    if about.takes_group_size:
        options["group_size"] = group_size
    if about.takes_dtype:
        options["dtype"] = dtype
    if about.holds_cache_scales:
        options["cache_scales"] = cache_scales
    return partial(_module(format).run, format=format, **options)


def cache_scales_of(
    format: str,
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    documents: Documents,
    length: int,
    *,
    group_size: int | None = None,
    seed: int = 0,
) -> CacheScales:
    """Scales of an fp8 K/V cache for what this format's writer makes of the model, measured on calibration text.

    Args:
        length: tokens of a window. group_size: as of `writer_of`.
    Raises:
        BadText: too little text. UnsupportedModel: a cache of another kind than K and V of its heads.
    """
    from qroar_core.exporters.cache_scales import measured

    rounded = getattr(_module(format), "rounded_weights", None)
    weights = None if rounded is None else rounded(group_size)
    return measured(loaded, rope, scales, documents, length, weights=weights, seed=seed)


def offered(loaded: LoadedModel) -> dict[str, str]:
    """The formats that any loaded model is written in and this one can be, in the words of a menu."""
    found = {name: _module(name).offered(loaded) for name, format in FORMATS.items() if not format.copies}
    return {
        name: f"{FORMATS[name].what}{added and f', {added}'}: {FORMATS[name].readers}"
        for name, added in found.items()
        if added is not None
    }


def main_file(folder: Path, loaded: LoadedModel, format: str) -> Path:
    """The file without which no runtime loads what was written to `folder`."""
    if FORMATS[format].whole_file:
        return folder / _module(format).file_name(loaded, format)
    return folder / "config.json"


def _module(format: str) -> ModuleType:
    return import_module(f"qroar_core.exporters.{writer_name(format)}")
