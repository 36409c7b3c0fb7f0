"""What a runtime that reads exports says of itself: the `READER` of a file of `exporters/readers`.

A limit is something of an export that this version of the runtime does not do, or does otherwise, whatever is written;
a recipe is how the runtime is started with it. The model card, the Export page, `verify`, `export --print-serving` and
docs/runtimes.md ask these and nothing else. No model library is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qroar_core.specs import QuantSpec, RopeSpec


@dataclass(frozen=True, slots=True)
class Exported:
    """What of an export a reader's limits depend on.

    Args:
        format: as `--format` takes it.
        family: `model_type` of config.json; "" of a GGUF.
        rope: `rope_parameters` of the layers that read the whole context; empty of a GGUF.
        dtype: what config.json says that weights are computed in; "" of a GGUF.
        window: max_position_embeddings, tokens; 0 of a GGUF.
        cache_scales: whether it has scales of an fp8 K/V cache.
    """

    format: str
    family: str = ""
    rope: Mapping[str, Any] | None = None
    dtype: str = ""
    window: int = 0
    cache_scales: bool = False

    @property
    def rope_type(self) -> str:
        """`default` where there is none."""
        return str((self.rope or {}).get("rope_type", "default"))

    @property
    def context(self) -> int:
        """The longest text that it is made for, tokens; 0 of a GGUF.

        transformers' dynamic NTK grows from max_position_embeddings on, which is the native window there and nothing
        else: the factor comes on top, as vLLM and SGLang count, too.
        """
        stretch = float((self.rope or {}).get("factor") or 1.0) if self.rope_type == "dynamic" else 1.0
        return int(self.window * stretch)

    @property
    def context_words(self) -> str:
        """What to say of it where it is not max_position_embeddings; empty elsewhere."""
        if self.context == self.window:
            return ""
        return (
            f"{self.context:,} tokens, {self.context / self.window:g} times the native window. Dynamic NTK counts from "
            f"max_position_embeddings of config.json, which stays the native window of {self.window:,}: give a runtime "
            "the length that you serve."
        )

    @property
    def has_two_lists(self) -> bool:
        """LongRoPE whose lists differ, so that the length decides which is read."""
        block = self.rope or {}
        return self.rope_type == "longrope" and block.get("short_factor") != block.get("long_factor")


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that a reader does not do.

    Args:
        of: the exports that it is about. says: what the reader makes of them, behind its name, and what to do.
    """

    of: Callable[[Exported], bool]
    says: str


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


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an export is served.

    Args:
        code: to copy. language: `bash` or `python`. notes: what to know.
    """

    code: str
    language: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """One runtime.

    Args:
        place: in lists; smaller comes first.
        label: its name. version: the one whose behaviour is stated here.
        source: where that was read or run.
        formats: which exports it reads, as `--format` takes them.
        limits: what it does not do.
        recipe: how it is started with an export; None of one that it does not serve.
        worker: the file of `models/runtimes` that runs it for `verify --runtime`; "": it is not run from here.
        module: what is importable where it is installed.
        packages: what pip installs, each with its version: with `--no-deps --target`, or in an own environment.
        own: whether it takes an environment of its own. removed: what pip brings along there that breaks it.
        keeps_layers: whether it can be told which layers keep their cache in the model's dtype.
        here: whether the module of this environment is that runtime.
        bound: nats, the mean |d ln p| against the source model that is rounding.
    """

    place: int
    label: str
    version: str
    source: str
    formats: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    recipe: Callable[[Served], Recipe | None] | None = None
    worker: str = ""
    module: str = ""
    packages: tuple[str, ...] = ()
    own: bool = False
    removed: tuple[str, ...] = ()
    keeps_layers: bool = False
    here: bool = True
    bound: float = 1e-3

    @property
    def name(self) -> str:
        """`vLLM 0.32`."""
        return f"{self.label} {self.version}"

    def limits_of(self, export: Exported) -> list[Limit]:
        """What this reader does not do with `export`; nothing where it does not read such a format at all."""
        return [limit for limit in self.limits if export.format in self.formats and limit.of(export)]
