"""What is to be served, from a folder that was written or from what would be written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.exporters.exported import of_folder, of_setting
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Served
from qroar_core.exporters.recipe import FROM_CHECKPOINT
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.specs import QuantSpec, RopeSpec

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    import torch

    from qroar_core.models.loaded import LoadedModel


def served_folder(
    folder: Path, note: dict[str, Any], rope: RopeSpec, length: int = 0, quant: QuantSpec | None = None
) -> Served:
    """A folder that `export` wrote.

    Args:
        note: its qroar.json. rope: what that says of the interpolation, as a spec.
        length: tokens; 0: what it promises.
        quant: K and V as the cache is to hold them; None: as the checkpoint asks, in full precision if it does not.
    """
    format, model = str(note["format"]), note["from"]
    export = of_folder(folder, format)
    files = sorted(folder.glob("*.gguf")) if FORMATS[format].whole_file else []
    block = export.rope or {}
    if quant is None:
        preset = KV_PRESETS[FROM_CHECKPOINT]
        quant = QuantSpec(k=preset.k, v=preset.v) if export.cache_scales else QuantSpec()
    native = int(block.get("original_max_position_embeddings") or export.window)
    return Served(
        path=files[0] if files else folder,
        export=export,
        rope=rope,
        native=native,
        head_dim=int(model["head_dim"]),
        pairing=str(model["pairing"]),
        length=length or export.context,
        quant=quant,
    )


def served_setting(
    loaded: LoadedModel,
    rope: RopeSpec,
    quant: QuantSpec,
    length: int,
    path: Path,
    format: str,
    dtype: torch.dtype | None = None,
    cache_scales: bool = False,
) -> Served:
    """What would be written to `path`.

    Args:
        dtype: the number format that was asked for; None keeps the checkpoint's own.
        cache_scales: whether scales of the K/V cache go into it.
    Raises:
        BadSpec: an interpolation that this family's config cannot say.
    """
    geometry = loaded.geometry
    return Served(
        path=path,
        export=replace(of_setting(loaded, rope, format, dtype), cache_scales=cache_scales),
        rope=rope,
        native=geometry.original_context,
        head_dim=geometry.head_dim,
        pairing=geometry.pairing,
        length=length,
        quant=quant,
    )
