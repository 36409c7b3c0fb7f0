"""A diagnosis of any size without a model of that size: for what figures and pages cost.

The classes of a diagnosis say what each of their lists is indexed by (`qroar_core.result_shapes`), and the lists are
drawn by that: a new field needs no line here, a new word one in `inflated` where its length depends on the size of the
model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from pydantic import BaseModel

from qroar_core.diagnostics.bands.result import Band
from qroar_core.diagnostics.result import Diagnosis, LayerGroupDiagnosis
from qroar_core.result_shapes import ANY, Axes, indexed_fields


def inflated(
    small: Diagnosis,
    length: int,
    layers: int,
    kv_heads: int,
    head_dim: int,
    bands: int,
    bins: int = 16,
    rows: int = 48,
    hidden: int = 4096,
    seed: int = 0,
) -> Diagnosis:
    """`small` blown up to a real model's size, all channels rotated: lists that grow hold random numbers.

    What has no length of these stays as it is, and so does what `small` lacks. Each of its groups of layers grows with
    `layers`, which is at least its own number of layers then.
    """
    pairs = head_dim // 2
    edges = [band * pairs // bands for band in range(bands + 1)]
    distances = [2**i - 1 for i in range(length.bit_length())]
    small_layers = len(small.dilation.absmax)
    draw = np.random.default_rng(seed)
    sizes = {
        "layer": layers,
        "kv_head": kv_heads,
        "channel": head_dim,
        "pair": pairs,
        "band": bands,
        "part": bands + 1,
        "bin": bins,
        "edge": bins + 1,
        "row": rows,
        "distance": len(distances),
        "column": hidden,
    }
    whole = {
        "edge": [i * length // bins for i in range(bins + 1)],
        "row": sorted(draw.integers(1, length, rows).tolist()),
        "distance": distances,
        "part": [2 * (last - first) for first, last in zip(edges, edges[1:])] + [0],
        "layer": _continued(small.decoder_layers, layers),
    }
    scope = _Scope(draw, sizes, whole, edges, small_layers, kv_heads / small.n_kv_heads, length)
    if small.logit_change is not None:
        scope = scope.of_layers("turning", small.logit_change.layers)
    return scope.model(small).model_copy(
        update={"length": length, "rotary_dim": head_dim, "head_dim": head_dim, "n_kv_heads": kv_heads}
    )


@dataclass(frozen=True)
class _Scope:
    """The lengths that hold in a diagnosis, or in one of its groups of layers."""

    draw: np.random.Generator
    sizes: dict[str, int]  # axis -> length; along any other the small one's
    whole: dict[str, list[int]]  # axis -> the whole numbers that a list along it holds
    edges: list[int]  # between bands, pairs
    small_layers: int
    more_heads: float
    length: int

    def of_layers(self, axis: str, numbers: list[int]) -> _Scope:
        """The same where `axis` means only the layers that stand for `numbers` of the small model's."""
        mine = [layer for layer in range(self.sizes["layer"]) if layer % self.small_layers in numbers]
        return replace(self, sizes=self.sizes | {axis: len(mine)}, whole=self.whole | {axis: mine})

    def model(self, found: BaseModel, index: int = 0) -> Any:
        """A result with every list at its new size; `index`, where it is an entry of a list."""
        scope, own = self, {}
        if isinstance(found, LayerGroupDiagnosis):
            scope = self.of_layers("turning", found.layers).of_layers("layer", found.layers)
            own = {"reach": self.length if found.window is None else found.reach}
        elif isinstance(found, Band):
            own = {"index": index, "first_pair": self.edges[index], "last_pair": self.edges[index + 1] - 1}
        fields = indexed_fields(type(found))
        lists = {field.name: scope.value(getattr(found, field.name), field.axes) for field in fields}
        return found.model_copy(update=lists | own)

    def value(self, value: Any, rule: Axes) -> Any:
        """A field, or an entry of a table."""
        if isinstance(value, BaseModel):
            return self.model(value)
        if isinstance(value, dict):
            return {key: self.value(inner, rule) for key, inner in value.items()}
        return self.nested(value, rule) if isinstance(value, list | tuple) and value else value

    def nested(self, values: Any, rule: Axes) -> Any:
        """A nested list: its floats are drawn, whole numbers are those of the axis, all else is repeated."""
        shape, level = [], [values]
        while level and isinstance(level[0], list | tuple):
            shape.append(len(level[0]))
            level = list(chain.from_iterable(level))
        names = rule.names[: len(shape)]
        wanted = [self.size(name, size) for name, size in zip_longest(names, shape, fillvalue=ANY)]
        kinds = {type(leaf) for leaf in level}
        if kinds == {int} and len(shape) == 1 and self.whole.get(rule.names[0]):
            return self.whole[rule.names[0]]
        if float in kinds:
            return values if wanted == shape else self.numbers(values, wanted, rule)
        return self.repeated(values, wanted)

    def numbers(self, values: Any, shape: list[int], rule: Axes) -> list:
        """Random floats within what the field allows; one list that rises or falls does so again, as pairs of ends."""
        drawn = np.clip(self.draw.lognormal(size=shape), rule.least, rule.most)
        ordered = len(shape) == 1 and None not in values and (values == sorted(values), values[::-1] == sorted(values))
        if isinstance(values[0], tuple):
            return [tuple(ends) for ends in np.sort(drawn).tolist()]
        if ordered and any(ordered):
            return sorted(drawn.tolist(), reverse=not ordered[0])
        return drawn.tolist()

    def repeated(self, values: Any, shape: list[int]) -> list:
        """The small one's entries over and over."""
        entries = [values[i % len(values)] for i in range(shape[0])] if values else []
        if shape[1:]:
            return [self.repeated(inner, shape[1:]) for inner in entries]
        return [self.model(one, i) if isinstance(one, BaseModel) else one for i, one in enumerate(entries)]

    def size(self, name: str, small: int) -> int:
        """Of an axis; heads of a matrix or a tensor grow as KV heads do."""
        return round(small * self.more_heads) if name.startswith("head") else self.sizes.get(name, small)


def _continued(numbers: list[int], count: int) -> list[int]:
    """Rising numbers, that many, by going through them again and again; none of none."""
    if not numbers:
        return []
    return [i // len(numbers) * (numbers[-1] + 1) + numbers[i % len(numbers)] for i in range(count)]
