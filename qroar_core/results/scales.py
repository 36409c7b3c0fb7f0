"""scales.json: the search's product, exact to the last bit (g is never rounded)."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from qroar_core.result import Result


class ModelIdentity(BaseModel):
    """Which model the scales belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str
    fingerprint: str
    family: str
    layers: int  # with attention
    kv_heads: int
    head_dim: int
    rotary_dim: int
    pairing: Literal["half", "interleaved"]
    decoder_layers: list[int] = []  # of a hybrid: number of each layer, all of them with attention, in its decoder

    def layer_number(self, layer: int) -> int:
        """What people call layer `layer`."""
        return self.decoder_layers[layer] if self.decoder_layers else layer

    @model_serializer(mode="wrap")
    def _short(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without decoder_layers where every layer has attention."""
        return {name: value for name, value in written(self).items() if name != "decoder_layers" or value}


class ScalesFile(Result):
    """DESIGN section 7: `g` nested to the granularity, `bands` as inclusive [first_pair, last_pair]."""

    format: Literal["qroar-scales"] = "qroar-scales"
    version: Literal[1, 2] = 1  # 2: with angles, which who reads g alone would leave out
    model: ModelIdentity
    rope: dict[str, Any]
    quantization: dict[str, Any]
    mode: Literal["symmetric", "shared"]
    granularity: Literal["model", "layer", "kv_head"]
    bands: list[tuple[int, int]] = Field(min_length=1)
    g: list[Any]
    angles: list[Any] | None = None  # rad, one per RoPE pair, nested like g
    search: dict[str, Any] = {}

    def to_json(self) -> str:
        """Like every result, but g and the angles keep all their digits; no angles, no word of them."""
        left_out = {"angles"} if self.angles is None else set()
        return json.dumps(self.model_dump(mode="json", exclude=left_out), indent=1) + "\n"
