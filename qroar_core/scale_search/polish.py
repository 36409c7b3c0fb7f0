"""A polish of tied pairs, found on the text that the search of scales reads, without a forward pass.

q and k are captured without the tie and turned back by the angles they had. Layers are independent: in each, the
channels of every tied group are mixed by one matrix a query head and one a KV head, identity at the start, and turned
as the tie turns them; Adam moves the matrices so that the attention output behind W_O comes near to that of the model
without the tie, nothing rounded. A layer keeps the mean of the last iterates where that is nearer over all rows. The
search of scales then reads q and k as the polish and the tie leave them, its error counted from the model without a
tie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qroar_core.interpolations.frequencies import layer_group_ropes, rope_of
from qroar_core.maths.attention_error import CapturedLayer, ErrorSetup, attention_error
from qroar_core.maths.channel_groups import ChannelGroup
from qroar_core.maths.rope import Pairing
from qroar_core.maths.scatter_gather import gathered
from qroar_core.models.capture import Capture, constant_of
from qroar_core.models.geometry import Geometry
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, Step
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.groups import groups_of
from qroar_core.transforms.polish import Polish

STEPS, ROWS_A_STEP = 40, 24  # of Adam a layer; query rows of one window that a step reads
LEARNING_RATE = 0.003  # of an entry, falling linearly to zero
AVERAGED = 3  # the result is the mean of the last STEPS // AVERAGED iterates
DECIMALS = 8  # of the matrices: the polish is what its file holds, and the file stays small
ERROR_METRIC = "projected"  # of the output after W_O: what the residual stream gets


@dataclass(frozen=True, slots=True, eq=False)
class FoundPolish:
    """`taken`: q and k polished and turned under the tie, outputs of the model without it.

    `error_left`: of the squared change of the attention output by the tie, mean over the layers that it changes.
    """

    polish: Polish
    taken: Capture
    error_left: float


@dataclass(frozen=True, slots=True, eq=False)
class TiedChannels:
    """Channels of tied pairs: first coordinates of all, then second ones.

    turned: layer -> frequencies of these pairs without and with the tie, rad/token, float64 (pairs,); other layers
        have no tie. members: of each group, where its channels are among these.
    """

    groups: tuple[ChannelGroup, ...]
    channels: Tensor  # int64
    members: tuple[Tensor, ...]
    turned: dict[int, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, loaded: LoadedModel, rope: RopeSpec, length: int) -> TiedChannels:
        """Of an interpolation with a tie, for a context of so many tokens."""
        geo = loaded.geometry
        groups = tuple(group for group in groups_of(geo, rope) if group.pairs)
        pairs = torch.cat([torch.arange(group.first, group.last + 1) for group in groups])
        place = [torch.nonzero((pairs >= group.first) & (pairs <= group.last))[:, 0] for group in groups]
        members = tuple(torch.cat((at, at + len(pairs))) for at in place)
        turned: dict[int, tuple[Tensor, Tensor]] = {}
        for one in layer_group_ropes(loaded, rope, length):
            if one.at.untied is not None:
                turned |= dict.fromkeys(one.group.layers, (one.at.untied[pairs], one.at.scaled[pairs]))
        return cls(groups, _channels(pairs, geo.rotary_dim, geo.pairing), members, turned)

    @property
    def within(self) -> Tensor:
        """(channels, channels): 1 within a group, 0 between groups."""
        size = len(self.channels)
        out = torch.zeros(size, size)
        for at in self.members:
            out[at[:, None], at] = 1
        return out

    def before_rope(self, x: Tensor, positions: Tensor, layer: int) -> Tensor:
        """These channels of x (heads, tokens, head_dim), captured without the tie, turned back."""
        return _turned(x[..., self.channels.to(x.device)], positions, -self.turned[layer][0])

    def after_rope(self, x: Tensor, mine: Tensor, positions: Tensor, layer: int) -> Tensor:
        """x with these channels as the tie turns them; mine: as `before_rope` has them, polished or not."""
        return x.index_copy(-1, self.channels.to(x.device), _turned(mine, positions, self.turned[layer][1]))

    def grouped(self, matrix: Tensor) -> list[Tensor]:
        """A matrix (heads, channels, channels), the block of each group."""
        return [matrix[:, at[:, None], at] for at in (one.to(matrix.device) for one in self.members)]

    def joined(self, blocks: list[Tensor]) -> Tensor:
        """Inverse of `grouped`, zero between groups."""
        out = blocks[0].new_zeros(len(blocks[0]), len(self.channels), len(self.channels))
        for at, block in zip(self.members, blocks, strict=True):
            out[:, at[:, None], at] = block
        return out


def find_polish(problem: SearchProblem, ids: Tensor, on_step: OnStep, known: Polish | None = None) -> FoundPolish:
    """Captures windows of text (windows, length) without the tie, and polishes them.

    Args:
        known: found before on the same text, taken as it is.
    Raises:
        Cancelled: raised by `on_step`.
    """
    untied = replace(problem, rope=replace(problem.rope, tie=()), spec=problem.spec.of_kinds(()))
    taken, tied = untied.captured(ids, on_step), TiedChannels.of(problem.loaded, problem.rope, problem.length)
    geo, layers = problem.loaded.geometry, []
    setup = error_setup(taken, geo)
    left, found = [], []
    for layer in range(geo.n_layers):
        on_step(Step("search", layer, geo.n_layers, "polish tied pairs"))
        one = LayerPolish(tied, [window[layer] for window in taken.windows], taken.metric[layer], setup, layer)
        none = one.none
        q, k = none if layer not in tied.turned else one.given(known) if known is not None else one.descended()
        if layer in tied.turned:
            share = float(one.error(q, k) / one.error(*none).clamp_min(1e-30))
            if known is None and not share < 1:
                (q, k), share = none, 1.0
            left.append(share)
        found.append((q, k))
        layers.append([one.moved(w, q, k) for w in range(len(taken.windows))])
    polish = known if known is not None else _polish(tied, found)
    return FoundPolish(polish, _capture(problem, taken, layers, set(tied.turned)), sum(left) / max(1, len(left)))


@dataclass(slots=True, eq=False)
class LayerPolish:
    """The polish of one layer; matrices are (heads, channels, channels), what is added to identity, x -> x + x M."""

    tied: TiedChannels
    windows: list[CapturedLayer]  # without the tie
    metric: Tensor
    setup: ErrorSetup
    layer: int

    @property
    def none(self) -> tuple[Tensor, Tensor]:
        """Matrices that change nothing."""
        one, size = self.windows[0], len(self.tied.channels)
        return one.q.new_zeros(len(one.q), size, size), one.k.new_zeros(len(one.k), size, size)

    def descended(self) -> tuple[Tensor, Tensor]:
        """The mean of Adam's last iterates, as its file holds it."""
        q, k = (x.requires_grad_(True) for x in self.none)
        within = self.tied.within.to(q)
        optimizer = torch.optim.Adam([q, k])
        generator = torch.Generator().manual_seed(0)
        own, late = [self._own(window) for window in self.windows], []
        for step in range(STEPS):
            w = step % len(self.windows)
            rows = torch.randperm(len(self.windows[w].rows), generator=generator)[:ROWS_A_STEP].sort().values
            with torch.enable_grad():
                moved = self._moved(self.windows[w], own[w], q * within, k * within, rows)
                self._error(moved).clamp_min(1e-30).log().backward()
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
            optimizer.step()
            optimizer.zero_grad()
            if step >= STEPS - STEPS // AVERAGED:
                late.append((q.detach().clone(), k.detach().clone()))
        q, k = ((torch.stack(each).mean(0) * within).round(decimals=DECIMALS) for each in zip(*late, strict=True))
        return q, k

    def given(self, polish: Polish) -> tuple[Tensor, Tensor]:
        """The matrices that a polish has for this layer: rows take the transpose of what acts on columns."""
        q, k = (
            self.tied.joined([one[self.layer].mT - torch.eye(one.shape[-1]).to(one) for one in each]).to(like)
            for each, like in ((polish.q, self.windows[0].q), (polish.k, self.windows[0].k))
        )
        return q, k

    def error(self, q: Tensor, k: Tensor) -> Tensor:
        """Squared change of the output over all rows of all windows, 0-dim, float64."""
        with torch.no_grad():
            moved = [self.moved(w, q, k) for w in range(len(self.windows))]
            return torch.stack([self._error(one).double() for one in moved]).sum()

    def moved(self, window: int, q: Tensor, k: Tensor) -> CapturedLayer:
        """All rows of one window under these matrices and the tie, which knows q and k without either."""
        layer = self.windows[window]
        if self.layer not in self.tied.turned:
            return layer
        with torch.no_grad():
            found = self._moved(layer, self._own(layer), q, k, torch.arange(len(layer.rows)))
        return replace(found, exact=(layer.q, layer.k))

    def _own(self, layer: CapturedLayer) -> tuple[Tensor, Tensor]:
        every = torch.arange(layer.k.shape[1])
        return self.tied.before_rope(layer.q, layer.rows, self.layer), self.tied.before_rope(layer.k, every, self.layer)

    def _moved(
        self, layer: CapturedLayer, own: tuple[Tensor, Tensor], q: Tensor, k: Tensor, pick: Tensor
    ) -> CapturedLayer:
        """Some rows; own: q and k of the tied channels before RoPE."""
        rows, every = layer.rows[pick], torch.arange(layer.k.shape[1])
        of_q = own[0][:, pick]
        return replace(
            layer,
            q=self.tied.after_rope(layer.q[:, pick], of_q + of_q @ q, rows, self.layer),
            k=self.tied.after_rope(layer.k, own[1] + own[1] @ k, every, self.layer),
            rows=rows,
            out=layer.out[:, pick],
            gate=None if layer.gate is None else layer.gate[:, pick],
        )

    def _error(self, layer: CapturedLayer) -> Tensor:
        return attention_error(layer, layer.k.new_zeros(len(layer.k), 1), self.metric, self.setup).sum()


def error_setup(taken: Capture, geometry: Geometry) -> ErrorSetup:
    """Nothing rounded, no scales."""
    band = geometry.channel_band(((0, geometry.n_pairs - 1),))
    tables = taken.scaling, geometry.pairing, taken.cos, taken.sin
    return ErrorSetup(QuantSpec(), "symmetric", band, *tables, ERROR_METRIC)


def _channels(pairs: Tensor, rotary_dim: int, pairing: Pairing) -> Tensor:
    return torch.cat((pairs, pairs + rotary_dim // 2) if pairing == "half" else (2 * pairs, 2 * pairs + 1))


def _turned(mine: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """First and second coordinates of pairs (heads, tokens, 2 * pairs), turned by frequencies (pairs,)."""
    angle = positions.cpu().double()[:, None] * frequencies
    cos, sin = angle.cos().to(mine), angle.sin().to(mine)
    a, b = mine.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def _polish(tied: TiedChannels, found: list[tuple[Tensor, Tensor]]) -> Polish:
    """All layers' matrices, as they act on columns."""
    sides = []
    for each in zip(*found, strict=True):
        blocks = zip(*(tied.grouped(one.cpu().double()) for one in each), strict=True)
        stacked = [torch.stack([block.mT for block in layers]).round(decimals=DECIMALS) for layers in blocks]
        sides.append(tuple(torch.eye(one.shape[-1], dtype=one.dtype) + one for one in stacked))
    return Polish(tied.groups, *sides)


def _capture(problem: SearchProblem, taken: Capture, layers: list[list[CapturedLayer]], tied: set[int]) -> Capture:
    """A capture of layers [layer][window], with the tables of the tie."""
    geo, length = problem.loaded.geometry, problem.length
    rope = rope_of(problem.loaded, problem.rope, length)

    def known(layer: int, one: CapturedLayer) -> CapturedLayer:
        cos, sin = rope.cos_sin(0, length, one.k.device) if layer in tied else (one.cos, one.sin)
        if problem.spec.k_offset and cos is not None and sin is not None:  # None: only where all layers have one table
            one = replace(one, constant=constant_of(geo, layer, cos, sin))
        return one if one.cos is None else replace(one, cos=cos, sin=sin)

    windows = [[known(i, windows[w]) for i, windows in enumerate(layers)] for w in range(len(taken.windows))]
    absmax = torch.stack([gathered([x.k.abs().amax(1) for x in window]) for window in windows]).amax(0)
    moment = torch.stack([gathered([x.k.mT @ x.k for x in window]) for window in windows]).double().sum(0)
    cos, sin = rope.cos_sin(0, length, taken.cos.device)
    return replace(taken, windows=windows, k_absmax=absmax, k_second_moment=moment, cos=cos, sin=sin)
