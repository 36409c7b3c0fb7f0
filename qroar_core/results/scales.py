"""scales.json: the search's product, exact to the last bit (g is never rounded)."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qroar_core.results.base import Result


class ModelIdentity(BaseModel):
    """Which model the scales belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str
    fingerprint: str
    family: str
    layers: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    pairing: Literal["half", "interleaved"]


class ScalesFile(Result):
    """DESIGN section 7: `g` nested to the granularity, `bands` as inclusive [first_pair, last_pair]."""

    format: Literal["qroar-scales"] = "qroar-scales"
    version: Literal[1] = 1
    model: ModelIdentity
    rope: dict[str, Any]
    quantization: dict[str, Any]
    mode: Literal["symmetric", "shared"]
    granularity: Literal["model", "layer", "kv_head"]
    bands: list[tuple[int, int]] = Field(min_length=1)
    g: list[Any]
    search: dict[str, Any] = {}

    def to_json(self) -> str:
        """Like every result, but g keeps all its digits."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"
