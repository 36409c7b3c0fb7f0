"""Layers that behave alike under an interpolation: same frequencies, same sliding window, rotated or not.

Most models are one group. Gemma 3 turns its sliding layers by a theta of their own, gpt-oss and Gemma 2 let every
second layer see a short window, SmolLM3 and Cohere 2 leave some layers unrotated. All groups share the bands
(runs of pairs); what a band means in tokens and radians is each group's own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from qroar_core.models.geometry import Geometry
from qroar_core.number_of import number_of


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers of one theta, one sliding window and one block of rope_parameters."""

    layers: tuple[int, ...]  # ascending
    kind: str  # their block of rope_parameters, "" where the config has one only
    theta: float
    window: int | None  # newest keys a query sees, tokens; None: all
    rotated: bool  # False: no RoPE, hence no bands
    interpolated: bool  # whether an interpolation changes their frequencies

    @property
    def name(self) -> str:
        """Short words that tell it from the model's other groups."""
        sees = "full attention" if self.window is None else f"window of {self.window:,} tokens"
        turns = f"theta {self.theta:,.0f}" if self.rotated else "not rotated"
        count = number_of(len(self.layers), "layer")
        return f"{sees}, {turns}, {count}"

    def reach(self, length: int) -> int:
        """Tokens a query of a context of `length` tokens can see, itself included."""
        return length if self.window is None else min(length, self.window)


def layer_groups(geometry: Geometry) -> tuple[LayerGroup, ...]:
    """The groups of a model: interpolated ones first, wider windows before narrower, layers without RoPE last."""
    found = defaultdict(list)
    for layer in range(geometry.n_layers):
        rotated = layer not in geometry.without_rope
        kind, theta = geometry.kind_of(layer), geometry.theta_of(layer)
        alike = ("", geometry.theta, geometry.window_of(layer), False, False)
        own = (kind, theta, geometry.window_of(layer), True, kind == geometry.interpolated_kind)
        found[own if rotated else alike].append(layer)
    groups = [LayerGroup(tuple(layers), *what) for what, layers in found.items()]
    return tuple(sorted(groups, key=_order))


def _order(group: LayerGroup) -> tuple:
    return not group.rotated, not group.interpolated, -(group.window or float("inf")), group.layers
