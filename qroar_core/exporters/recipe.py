"""Words that recipes of several runtimes share.

No model library is imported: a recipe is words.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from qroar_core.exporters.reader import Recipe, Served
from qroar_core.quantizers.preset import KVPreset
from qroar_core.quantizers.presets import RUNTIMES
from qroar_core.quantizers.spec import QuantSpec

FROM_CHECKPOINT = "fp8-calibrated"  # the preset of vLLM whose scales lie in the checkpoint


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


def refusing_cache_scales(label: str) -> Recipe:
    """In place of commands: the runtime reads no folder with scales of an fp8 K/V cache."""
    return Recipe(f"# {label} refuses a folder with scales of an fp8 K/V cache: export without --cache-scales.", "bash")


def in_float32(served: Served) -> list[str]:
    """Options of runtimes that would serve a float32 folder in half the bits."""
    return ["--dtype", "float32"] if served.export.dtype == "float32" else []


def shell(*lines: Sequence[str | Path], notes: Sequence[str] = ()) -> Recipe:
    """Commands of a shell, a line each."""
    return Recipe("\n".join(shlex.join(map(str, words)) for words in lines), "bash", tuple(notes))
