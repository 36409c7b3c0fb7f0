"""How an export is served: what a recipe depends on, and what it gives. A reader makes its own from the first.

No model library is imported: a recipe is words.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.exporters.exported import of_folder, of_setting
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Exported, Recipe
from qroar_core.quantizers.preset import KVPreset
from qroar_core.quantizers.presets import KV_PRESETS, RUNTIMES
from qroar_core.quantizers.spec import QuantSpec
from qroar_core.specs import RopeSpec

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    import torch

    from qroar_core.models.loaded import LoadedModel

FROM_CHECKPOINT = "fp8-calibrated"  # the preset of vLLM whose scales lie in the checkpoint


@dataclass(frozen=True, slots=True)
class Served:
    """An export, and what it is to be served with.

    Args:
        path: the folder, or the file of a format that is one file.
        export: what was written there.
        rope: its interpolation.
        native: the window that it was trained for, tokens; 0 where the export does not say it.
        head_dim: channels of a head.
        pairing: `half` or `interleaved`.
        length: context to serve, tokens; 0: what the export promises.
        quant: K and V as the cache is to hold them.
    """

    path: Path
    export: Exported
    rope: RopeSpec
    native: int
    head_dim: int
    pairing: str
    length: int
    quant: QuantSpec

    @property
    def rounds_cache(self) -> bool:
        """Whether K or V is quantized."""
        return self.quant.k is not None or self.quant.v is not None


def served_folder(
    folder: Path, note: dict[str, Any], rope: RopeSpec, length: int = 0, quant: QuantSpec | None = None
) -> Served:
    """A folder that `export` wrote.

    Args:
        note: its qroar.json. rope: what that says of the interpolation, as a spec.
        length: tokens; 0: what its config.json promises.
        quant: K and V as the cache is to hold them; None: as the checkpoint asks, in full precision if it does not.
    """
    format, model = str(note["format"]), note["from"]
    export = of_folder(folder, format)
    files = sorted(folder.glob("*.gguf")) if FORMATS[format].whole_file else []
    block = export.rope or {}
    if quant is None:
        preset = KV_PRESETS[FROM_CHECKPOINT]
        quant = QuantSpec(k=preset.k, v=preset.v) if export.cache_scales else QuantSpec()
    native = int(block.get("original_max_position_embeddings") or export.context)
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


def cache_of(runtime: str, quant: QuantSpec) -> tuple[str, KVPreset] | None:
    """The runtime's cache that this K and V are, with its name; None: it has none like it."""
    caches = RUNTIMES[runtime].caches.items()
    return next(((name, one) for name, one in caches if (one.k, one.v) == (quant.k, quant.v)), None)


def no_such_cache(label: str, runtime: str) -> str:
    """What to say of a runtime that has no cache like the setup's."""
    names = ", ".join(RUNTIMES[runtime].caches)
    return (
        f"{label}'s own quantized caches are the presets {names}; it has no cache like this setup's, so measure what "
        "you will serve."
    )


def shell(*lines: Sequence[str | Path], notes: Sequence[str] = ()) -> Recipe:
    """Commands of a shell, a line each."""
    return Recipe("\n".join(shlex.join(map(str, words)) for words in lines), "bash", tuple(notes))
