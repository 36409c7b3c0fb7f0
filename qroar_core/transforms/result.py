"""scales.json: the search's product, exact to the last bit (g is never rounded)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from qroar_core.plain_file import MIB
from qroar_core.result import Result
from qroar_core.result_shapes import ANY, axes
from qroar_core.specs import Granularity, Mode
from qroar_core.transforms.registry import kinds, switches

LARGEST = 256 * MIB  # bytes of a file: value maps of 32 layers of 8 KV heads of 128 channels take 50 MiB
PLACE = "the value maps of this file"  # what stands for them until they are written


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
    # of a hybrid: number of each layer, all of them with attention, in its decoder
    decoder_layers: Annotated[list[int], axes("layer")] = []

    def contradictions(self) -> Iterator[str]:
        """Sizes that no model has."""
        if self.layers < 1 or self.kv_heads < 1:
            yield f"model: {self.layers} layers with {self.kv_heads} KV heads"
        if not 2 <= self.rotary_dim <= self.head_dim or self.rotary_dim % 2:
            yield f"model.rotary_dim: {self.rotary_dim}, head_dim is {self.head_dim}"
        if self.decoder_layers and len(self.decoder_layers) != self.layers:
            yield f"model.decoder_layers: {len(self.decoder_layers)} of {self.layers} layers"

    def layer_number(self, layer: int) -> int:
        """What people call layer `layer`."""
        return self.decoder_layers[layer] if self.decoder_layers else layer

    @model_serializer(mode="wrap")
    def _short(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without decoder_layers where every layer has attention."""
        return {name: value for name, value in written(self).items() if name != "decoder_layers" or value}


class GroupMap(BaseModel):
    """The matrix of one group of channels that turn alike (`maths/channel_groups`), nested like g.

    `matrix`: on first coordinates of the pairs, then second ones, then `rest` channels past rotary_dim.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int
    last: int
    still: bool
    rest: int = 0
    matrix: Annotated[list[Any], axes(ANY)]

    @property
    def size(self) -> int:
        """Channels of it."""
        return 2 * (self.last - self.first + 1) + self.rest


class ScalesFile(Result):
    """docs/method.md section 7: `g` nested to the granularity, `bands` as inclusive [first_pair, last_pair]."""

    MOST: ClassVar[int] = LARGEST

    format: Literal["qroar-scales"] = "qroar-scales"
    # the first that can hold all that it has (`TransformKind.version`): who reads g alone would leave the rest out
    version: Literal[1, 2, 3, 4, 5] = 1
    model: ModelIdentity
    rope: dict[str, Any]
    quantization: dict[str, Any]
    mode: Mode
    granularity: Granularity
    bands: Annotated[list[tuple[int, int]], axes("band")] = Field(min_length=1)
    g: Annotated[list[Any], axes(ANY)]
    angles: Annotated[list[Any] | None, axes(ANY)] = None  # rad, one per RoPE pair, nested like g
    maps: Annotated[list[GroupMap], axes("map", empty=True)] = []
    # on V's channels, [layer][kv_head][row][column]; W_O's columns take the inverse
    value_maps: Annotated[list[list[list[list[float]]]] | None, axes(ANY)] = None
    # taken off K before RoPE, scales and maps, 0 on channels that turn; [layer][kv_head][channel]
    k_offset: Annotated[list[list[list[float]]] | None, axes(ANY)] = None
    search: dict[str, Any] = {}

    def contradictions(self) -> Iterator[str]:
        """Tables that are not those of the granularity, scales that are no scales."""
        who = self.model
        yield from who.contradictions()
        pairs = who.rotary_dim // 2
        yield from band_order(self.bands, pairs)
        outer = {"model": (), "layer": (who.layers,), "kv_head": (who.layers, who.kv_heads)}[self.granularity]
        for name, last, what in (("g", len(self.bands), "band"), ("angles", pairs, "pair")):
            table = getattr(self, name)
            shape = (*outer, last)
            if table is not None and not _has_shape(table, shape):
                per = {"model": what, "layer": f"layer and {what}", "kv_head": f"layer, KV head and {what}"}
                words = " x ".join(map(str, shape))
                yield f"{name}: no table of {words} numbers, one per {per[self.granularity]}"
        if not all(g > 0 for g in flat(self.g)):
            yield "g: a scale that is not above 0"
        for at, one in enumerate(self.maps):
            if not 0 <= one.first <= one.last + 1 <= pairs or one.rest not in (0, who.head_dim - who.rotary_dim):
                yield f"maps[{at}]: pairs {one.first} to {one.last} and {one.rest} more channels are not of this model"
            elif one.rest and (not one.still or one.last >= one.first):
                yield f"maps[{at}]: channels past rotary_dim do not turn, and are a group of their own"
            elif not one.rest and one.last < one.first:
                yield f"maps[{at}]: no channels"
            elif not _has_shape(one.matrix, (*outer, one.size, one.size)):
                yield f"maps[{at}].matrix: no table of {' x '.join(map(str, (*outer, one.size, one.size)))} numbers"
        taken = [pair for one in self.maps for pair in range(one.first, one.last + 1)]
        if len(taken) != len(set(taken)) or sum(one.rest > 0 for one in self.maps) > 1:
            yield "maps: two of them hold the same channels"
        if (values := self.value_maps) is not None:
            size = len(values[0][0]) if values and values[0] else 0
            if not size or not _has_shape(values, (who.layers, who.kv_heads, size, size)):
                yield "value_maps: no square table for each layer and KV head"
        shape = (who.layers, who.kv_heads, who.head_dim)
        if self.k_offset is not None and not _has_shape(self.k_offset, shape):
            yield f"k_offset: no table of {' x '.join(map(str, shape))} numbers, one per layer, KV head and channel"

    @property
    def written_as(self) -> int:
        """The version that has all this file says and no more."""
        return max([1, *(kinds()[name].version for name in self.kinds)])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of transform that it has beside scales."""
        return tuple(name for name in switches() if getattr(self, name))

    @property
    def is_identity(self) -> bool:
        """True when every scale is 1, no pair is turned, nothing is mixed or taken off: the model as it is."""
        kept = not self.maps and self.value_maps is None and not any(flat(self.k_offset or []))
        return kept and all(g == 1 for g in flat(self.g)) and not any(flat(self.angles or []))

    def to_json(self) -> str:
        """Like every result, but all numbers keep all their digits; no angles or maps, no word of them.

        Value maps are one line: they are many numbers, and an indented line each would double the file.
        """
        said = self.model_dump(mode="json", exclude={*switches()} - {*self.kinds})
        if self.value_maps is None:
            return json.dumps(said, indent=1) + "\n"
        text = json.dumps(said | {"value_maps": PLACE}, indent=1)
        return text.replace(json.dumps(PLACE), json.dumps(self.value_maps, separators=(",", ":")), 1) + "\n"


def flat(table: list[Any]) -> Iterator[Any]:
    """The numbers of a nested list."""
    for one in table:
        if isinstance(one, list):
            yield from flat(one)
        else:
            yield one


def band_order(bands: Sequence[tuple[int, int]], pairs: int) -> Iterator[str]:
    """What is wrong with bands, inclusive (first, last), that must cover `pairs` RoPE pairs one after the other."""
    ends = [end for first, last in bands for end in (first, last + 1)]
    if ends != sorted(ends) or ends[1:-1:2] != ends[2::2] or (ends[0], ends[-1]) != (0, pairs):
        yield f"bands: not one after the other over {pairs} RoPE pairs"
    elif any(first > last for first, last in bands):
        yield "bands: one without a pair"


def _has_shape(table: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return isinstance(table, int | float) and not isinstance(table, bool)
    return isinstance(table, list) and len(table) == shape[0] and all(_has_shape(one, shape[1:]) for one in table)
