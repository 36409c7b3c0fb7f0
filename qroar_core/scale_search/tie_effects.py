"""What tying RoPE pairs does to attention, estimated from q, k and v that were read once without any tie.

A tie turns k at position m by m (omega'_i - omega_i) further, and q likewise: that needs no forward pass. One capture
tells of any tie how far it moves attention in full precision, which is what it costs, and how far rounding still moves
it where maps spread each group (`SearchProblem.even_maps`), with the scales of SmoothAttention or none: where a
search begins. Both are errors of the attention output against the untied, unquantized one, not nats: the same
error costs a tie far less than it costs a quantizer, since a tie moves all keys of a neighbourhood alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qroar_core.interpolations.frequencies import layer_group_ropes
from qroar_core.interpolations.tie import Tie
from qroar_core.maths.attention_error import CapturedLayer, ErrorSetup, attention_error
from qroar_core.maths.rope import Pairing, rotate
from qroar_core.maths.transform_point import TransformParts
from qroar_core.models.capture import Capture
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.specs import QuantSpec
from qroar_core.transforms.baselines import smooth_attention
from qroar_core.transforms.groups import groups_of

ERROR_METRIC = "projected"  # of the output after W_O: what the residual stream gets


@dataclass(frozen=True, slots=True)
class TieEffect:
    """Errors of the attention output, each a share of what rounding alone makes without a tie; mean over layers.

    cost: moved by the tie, nothing rounded. left: moved by the tie and by rounding under it.
    """

    cost: float
    left: float


@dataclass(slots=True, eq=False)
class TieEffects:
    """The effects of any ties on one captured text."""

    problem: SearchProblem  # without a tie
    taken: Capture
    every: int = 1  # layers are looked at in steps of so many, from the first
    alone: Tensor = field(init=False)  # (layers,): what rounding moves without a tie
    known: dict[tuple[tuple[Tie, ...], bool], float] = field(default_factory=dict)  # by ties, and whether rounded

    def __post_init__(self) -> None:
        self.alone = self._error((), self.problem.quant, spread=False).clamp_min(1e-30)

    def of(self, ties: Sequence[Tie]) -> TieEffect:
        """What these ties do."""
        return TieEffect(self.cost(ties), self.left(ties))

    def cost(self, ties: Sequence[Tie]) -> float:
        """How far the ties alone move the output: `TieEffect.cost`, without what rounding does."""
        return self._share(tuple(ties), rounded=False) if ties else 0.0

    def left(self, ties: Sequence[Tie]) -> float:
        """How far ties and rounding together move it: `TieEffect.left`."""
        return self._share(tuple(ties), rounded=True)

    def _share(self, ties: tuple[Tie, ...], *, rounded: bool) -> float:
        if (ties, rounded) not in self.known:
            error = self._error(ties, self.problem.quant if rounded else QuantSpec(), spread=rounded)
            seen = [i for i in range(0, len(error), self.every) if i not in self.problem.kept]
            self.known[ties, rounded] = float((error / self.alone)[seen].mean())
        return self.known[ties, rounded]

    def _error(self, ties: tuple[Tie, ...], quant: QuantSpec, *, spread: bool) -> Tensor:
        """Squared change of every layer's output over all rows and windows, (layers,)."""
        problem, taken = self.problem, self.taken
        geo, rope = problem.loaded.geometry, replace(problem.rope, tie=ties)
        groups = groups_of(geo, rope) if spread else ()
        setup = ErrorSetup(
            *(quant, problem.spec.mode, geo.channel_band(problem.bands).to(problem.loaded.device), taken.scaling),
            *(geo.pairing, taken.cos, taken.sin, ERROR_METRIC),
            groups=groups,
        )
        further = _turned_further(problem, ties)
        total = torch.zeros(len(taken.metric), dtype=torch.float64)
        with torch.no_grad():
            for layers in taken.windows:
                for i, (layer, metric) in enumerate(zip(layers, taken.metric, strict=True)):
                    if i % self.every:
                        continue
                    moved = layer if layer.still or i not in further else turned_by(layer, further[i], geo.pairing)
                    starts = self._starts(moved, setup) if spread else (self._none(moved),)
                    mine = replace(setup, quant=geo.quant_at(i, quant))
                    found = torch.stack([attention_error(moved, x, metric, mine).sum(-1) for x in starts])
                    total[i] += float(found.amin(0).sum())  # each KV head from where it does best
        return total

    def _none(self, layer: CapturedLayer) -> Tensor:
        return layer.k.new_zeros(len(layer.k), len(self.problem.bands))

    def _starts(self, layer: CapturedLayer, setup: ErrorSetup) -> tuple[Tensor, ...]:
        """Identity and SmoothAttention's scales, both with spreading maps where there are groups; (n_kv_heads, ...)."""
        bands, pairs = len(self.problem.bands), self.problem.loaded.geometry.n_pairs
        absmax = layer.k.abs().amax(1)
        ranges = torch.stack([absmax[:, setup.band == b].amax(-1) for b in range(bands)], -1)
        log2_g = smooth_attention(ranges).log2().to(layer.k)
        starts = log2_g.new_zeros(log2_g.shape), log2_g
        if not setup.groups:
            return starts
        moment = (layer.k.mT @ layer.k).double()
        points = []
        for x in starts:
            maps = self.problem.even_maps(moment, x, setup.groups)
            points.append(TransformParts(x, x.new_zeros(len(x), pairs), tuple(maps)).point(setup.groups))
        return tuple(points)


def turned_by(layer: CapturedLayer, further: Tensor, pairing: Pairing) -> CapturedLayer:
    """The layer with q and k turned by `further` (pairs,), rad/token, times their positions; its output stays."""
    where = torch.arange(layer.k.shape[1], device=layer.k.device)

    def turn(x: Tensor, positions: Tensor) -> Tensor:
        angle = positions.double()[:, None] * further.to(x.device)
        return rotate(x, angle.cos().to(x), angle.sin().to(x), pairing)

    return replace(layer, q=turn(layer.q, layer.rows.to(layer.q.device)), k=turn(layer.k, where))


def _turned_further(problem: SearchProblem, ties: tuple[Tie, ...]) -> dict[int, Tensor]:
    """Layer -> omega' - omega of its pairs, rad/token, float64; layers that no interpolation touches are left out."""
    if not ties:
        return {}
    found: dict[int, Tensor] = {}
    for turning in layer_group_ropes(problem.loaded, replace(problem.rope, tie=ties), problem.length):
        if turning.at.untied is not None:
            apart = turning.at.scaled.double() - turning.at.untied.double()
            found |= dict.fromkeys(turning.group.layers, apart)
    return found
