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
ONE_LINE = ("value_maps", "polish")  # tables that are many numbers: an indented line each would double the file


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


class PolishedGroup(BaseModel):
    """The matrices of one group of tied pairs, each [layer][head][row][column] (`transforms/polish`).

    `q` is of query heads, `k` of KV heads; rows and columns are first coordinates of the pairs, then second ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int
    last: int
    still: bool
    q: Annotated[list[list[list[list[float]]]], axes(ANY)]
    k: Annotated[list[list[list[list[float]]]], axes(ANY)]

    def against(self, who: ModelIdentity) -> Iterator[str]:
        """What of it no model like this has."""
        if not 0 <= self.first <= self.last < who.rotary_dim // 2:
            yield f"pairs {self.first} to {self.last} are not of this model"
            return
        size, heads = 2 * (self.last - self.first + 1), len(self.q[0]) if self.q else 0
        if not heads or heads % who.kv_heads:
            yield f"q: {heads} query heads, the model has {who.kv_heads} KV heads"
        for name, table, count in (("q", self.q, heads), ("k", self.k, who.kv_heads)):
            shape = (who.layers, count, size, size)
            if heads and not _has_shape(table, shape):
                yield f"{name}: no table of {' x '.join(map(str, shape))} numbers"


class ScalesFile(Result):
    """docs/method.md section 7: `g` nested to the granularity, `bands` as inclusive [first_pair, last_pair]."""

    MOST: ClassVar[int] = LARGEST

    format: Literal["qroar-scales"] = "qroar-scales"
    # the first that can hold all that it has (`TransformKind.version`): who reads g alone would leave the rest out
    version: Literal[1, 2, 3, 4, 5, 6] = 1
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
    polish: Annotated[list[PolishedGroup], axes("polish", empty=True)] = []  # of tied pairs: it changes the model
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
        for at, group in enumerate(self.polish):
            yield from (f"polish[{at}]: {problem}" for problem in group.against(who))
        taken = [pair for group in self.polish for pair in range(group.first, group.last + 1)]
        if len(taken) != len(set(taken)) or len({len(group.q[0]) for group in self.polish if group.q}) > 1:
            yield "polish: two groups hold the same pairs, or are of other numbers of query heads"

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
        kept = not self.maps and not self.polish and self.value_maps is None and not any(flat(self.k_offset or []))
        return kept and all(g == 1 for g in flat(self.g)) and not any(flat(self.angles or []))

    def to_json(self) -> str:
        """Like every result, but all numbers keep all their digits; no angles or maps, no word of them."""
        said = self.model_dump(mode="json", exclude={*switches()} - {*self.kinds})
        long = {name: said[name] for name in ONE_LINE if said.get(name)}
        text = json.dumps(said | {name: _place(name) for name in long}, indent=1)
        for name, table in long.items():
            text = text.replace(json.dumps(_place(name)), json.dumps(table, separators=(",", ":")), 1)
        return text + "\n"


def _place(name: str) -> str:
    """What stands for a table until it is written."""
    return f"the {name} of this file"


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
