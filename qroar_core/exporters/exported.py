"""What of an export the limits of readers depend on, from its folder or before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Exported
from qroar_core.models.geometry import FULL_ATTENTION

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    import torch

    from qroar_core.models.loaded import LoadedModel
    from qroar_core.specs import RopeSpec


def of_folder(folder: Path, format: str) -> Exported:
    """By the config.json that lies in it."""
    if FORMATS[format].whole_file:
        return Exported(format)
    from qroar_core.models.checkpoint_files import table_in
    from qroar_core.models.config_rope import PARAMETERS, SCALING, restated

    config = restated(table_in(folder / "config.json"))
    kept = config.get("quantization_config") or {}
    config = config | config.get("text_config", {})
    block = config.get(PARAMETERS) or config.get(SCALING) or {}
    said = config.get("dtype") or config.get("torch_dtype") or ""
    found = _of(format, config, block, str(said))
    return replace(found, cache_scales=bool(kept.get("kv_cache_scheme")))


def of_setting(loaded: LoadedModel, rope: RopeSpec, format: str, dtype: torch.dtype | None) -> Exported:
    """By what would be written: `dtype` None keeps the checkpoint's own number format.

    Raises:
        BadSpec: an interpolation that this family's config cannot say.
    """
    if FORMATS[format].whole_file:
        return Exported(format)
    from qroar_core.exporters.written_rope import written_rope
    from qroar_core.models.own_dtype import announced_dtype, word, written_dtype

    said = written_rope(loaded, rope)
    named = word(announced_dtype(loaded, written_dtype(loaded, dtype)[0], dtype))
    config = {"model_type": loaded.model.config.model_type, "max_position_embeddings": said.context}
    return _of(format, config, said.parameters, named)


def _of(format: str, config: Mapping[str, Any], block: Mapping[str, Any], dtype: str) -> Exported:
    whole = block.get(FULL_ATTENTION)  # of families with a RoPE for each kind of layer
    window = config.get("max_position_embeddings") or 0
    return Exported(
        format, str(config.get("model_type", "")), whole if isinstance(whole, dict) else block, dtype, window
    )
