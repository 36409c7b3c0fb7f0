"""What a runtime that reads exports says of itself: the `READER` of a file of `exporters/readers`.

A limit is something of an export that this version of the runtime does not do, or does otherwise, whatever is written.
The model card, the Export page, `verify` and docs/runtimes.md ask these and nothing else. No model library is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Exported:
    """What of an export a reader's limits depend on.

    Args:
        format: as `--format` takes it.
        family: `model_type` of config.json; "" of a GGUF.
        rope: `rope_parameters` of the layers that read the whole context; empty of a GGUF.
        dtype: what config.json says that weights are computed in; "" of a GGUF.
        context: max_position_embeddings, tokens; 0 of a GGUF.
    """

    format: str
    family: str = ""
    rope: Mapping[str, Any] | None = None
    dtype: str = ""
    context: int = 0

    @property
    def rope_type(self) -> str:
        """`default` where there is none."""
        return str((self.rope or {}).get("rope_type", "default"))

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
class Reader:
    """One runtime.

    Args:
        place: in lists; smaller comes first.
        label: its name. version: the one whose behaviour is stated here.
        source: where that was read or run.
        formats: which exports it reads, as `--format` takes them.
        limits: what it does not do.
        worker: the file of `models/runtimes` that runs it for `verify --runtime`; "": it is not run from here.
        module: what is importable where it is installed.
        packages: what pip installs, each with its version: with `--no-deps --target`, or in an own environment.
        own: whether it takes an environment of its own. removed: what pip brings along there that breaks it.
        here: whether the module of this environment is that runtime.
        bound: nats, the mean |d ln p| against the source model that is rounding.
    """

    place: int
    label: str
    version: str
    source: str
    formats: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    worker: str = ""
    module: str = ""
    packages: tuple[str, ...] = ()
    own: bool = False
    removed: tuple[str, ...] = ()
    here: bool = True
    bound: float = 1e-3

    @property
    def name(self) -> str:
        """`vLLM 0.32`."""
        return f"{self.label} {self.version}"

    def limits_of(self, export: Exported) -> list[Limit]:
        """What this reader does not do with `export`; nothing where it does not read such a format at all."""
        return [limit for limit in self.limits if export.format in self.formats and limit.of(export)]
