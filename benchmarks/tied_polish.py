"""How much of what tied pairs cost can be polished away in W_Q and W_K? SmolLM2, YaRN x2, nothing quantized.

A tie turns pairs by other angles than the model was trained with. Here the channels of each tied group are mixed anew
before RoPE, by one matrix per query head in W_Q and one per KV head in W_K, so that the attention output of captured
calibration text comes near to that of the model without the tie. Nothing of it costs anything at run time, but it is a
change of the model, not a transform that leaves it alone: what is left of the cost is measured in nats on development
text, which the matrices have not seen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.headline_units import readable
from benchmarks.int4_int3_w4 import ROPE
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.interpolations.tie import parse_ties, ties_words
from qroar_core.maths.attention_error import CapturedLayer, ErrorSetup, attention_error
from qroar_core.maths.rope import Pairing, rotate
from qroar_core.models.capture import Capture, capture
from qroar_core.models.geometry import Geometry
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import substituted_weights
from qroar_core.models.text import windows
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.statistics.intervals import paired_interval
from qroar_core.transforms.groups import groups_of

TIES = ("22-25,26-31:0", "20-21,22-23,24-25,26-27,28-31")
CALIBRATION, ROWS, ROWS_A_STEP, STEPS = 2, 96, 24, 40  # windows; query rows of each
LEARNING_RATE, AVERAGED = 0.003, 3  # falling linearly; the result is the mean of the last third of the iterates
SHORT, WINDOWS, WINDOWS_SHORT = 2048, 2, 8


@dataclass(frozen=True, slots=True, eq=False)
class Polish:
    """One layer's matrices on the channels of all tied groups, identity plus these; zero between groups."""

    q: Tensor  # (n_heads, channels, channels)
    k: Tensor  # (n_kv_heads, channels, channels)


@dataclass(frozen=True, slots=True, eq=False)
class Tied:
    """The channels of tied pairs, and the frequencies with and without the tie; rad/token, float64 (pairs,)."""

    channels: Tensor  # int64
    within: Tensor  # (channels, channels): 1 within a group, 0 between groups
    untied: Tensor
    tied: Tensor
    pairing: Pairing

    @classmethod
    def of(cls, loaded: LoadedModel, rope: RopeSpec, length: int) -> Tied:
        """The groups of an interpolation with a tie."""
        geo = loaded.geometry
        each = [group.channels(geo.rotary_dim, geo.pairing) for group in groups_of(geo, rope)]
        group = torch.cat([torch.full_like(one, i) for i, one in enumerate(each)])
        at, before = (rope_of(loaded, one, length) for one in (rope, replace(rope, tie=())))
        within = (group[:, None] == group[None]).float()
        return cls(torch.cat(each), within, before.inv_freq.double(), at.inv_freq.double(), geo.pairing)

    def before_rope(self, layer: CapturedLayer) -> tuple[Tensor, Tensor]:
        """q and k of a layer captured without the tie, turned back."""
        return self._turned(layer.q, layer.rows, -self.untied), self._turned(layer.k, None, -self.untied)

    def after_rope(self, q: Tensor, k: Tensor, rows: Tensor, polish: Polish) -> tuple[Tensor, Tensor]:
        """q of some rows and k, polished and turned under the tie."""
        q, k = (self._mixed(x, matrix) for x, matrix in ((q, polish.q), (k, polish.k)))
        return self._turned(q, rows, self.tied), self._turned(k, None, self.tied)

    def _mixed(self, x: Tensor, matrix: Tensor) -> Tensor:
        mine = x[..., self.channels]
        return x.index_copy(-1, self.channels, mine + mine @ (matrix * self.within))

    def _turned(self, x: Tensor, positions: Tensor | None, frequencies: Tensor) -> Tensor:
        at = torch.arange(x.shape[-2]) if positions is None else positions
        angle = at.double()[:, None] * frequencies
        return rotate(x, angle.cos().to(x), angle.sin().to(x), self.pairing)


def polished(taken: Capture, tied: Tied, geometry: Geometry) -> list[Polish]:
    """Matrices of every layer by Adam on the squared change of the attention output after W_O."""
    found = []
    size = len(tied.channels)
    setup = error_setup(taken, geometry)
    for i, metric in enumerate(taken.metric):
        polish = Polish(
            torch.zeros(geometry.n_heads, size, size, requires_grad=True),
            torch.zeros(geometry.n_kv_heads, size, size, requires_grad=True),
        )
        own = [tied.before_rope(window[i]) for window in taken.windows]
        optimizer = torch.optim.Adam([polish.q, polish.k])
        generator = torch.Generator().manual_seed(0)
        late = []
        for step in range(STEPS):
            layer, (q, k) = taken.windows[step % len(own)][i], own[step % len(own)]
            pick = torch.randperm(len(layer.rows), generator=generator)[:ROWS_A_STEP].sort().values
            moved = tied.after_rope(q[:, pick], k, layer.rows[pick], polish)
            error(layer, moved, pick, metric, setup).log().backward()
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
            optimizer.step()
            optimizer.zero_grad()
            if step >= STEPS - STEPS // AVERAGED:
                late.append((polish.q.detach().clone(), polish.k.detach().clone()))
        q, k = (torch.stack(each).mean(0) * tied.within for each in zip(*late, strict=True))
        found.append(Polish(q, k))
        print(".", end="", file=sys.stderr, flush=True)
    return found


def error_setup(taken: Capture, geometry: Geometry) -> ErrorSetup:
    """Nothing rounded, no scales."""
    band = geometry.channel_band(((0, geometry.n_pairs - 1),))
    tables = taken.scaling, geometry.pairing, taken.cos, taken.sin
    return ErrorSetup(QuantSpec(), "symmetric", band, *tables, "projected")


def error(
    layer: CapturedLayer, moved: tuple[Tensor, Tensor], pick: Tensor, metric: Tensor, setup: ErrorSetup
) -> Tensor:
    """Squared change of the layer's output over some rows, 0-dim."""
    q, k = moved
    there = replace(layer, q=q, k=k, rows=layer.rows[pick], out=layer.out[:, pick])
    return attention_error(there, k.new_zeros(len(k), 1), metric, setup).sum()


@contextmanager
def in_place(loaded: LoadedModel, tied: Tied, found: list[Polish]) -> Iterator[None]:
    """The model with the matrices in the rows of W_Q and W_K."""
    parameters = dict(loaded.model.named_parameters())
    new: dict[str, Tensor] = {}
    for slots, polish in zip(loaded.slots(), found, strict=True):
        for slot, matrix in zip(slots, (polish.q, polish.k), strict=True):
            assert slot.weight is not None
            assert slot.bias is None
            weight = parameters[slot.weight].data.clone()
            rows = weight[slot.rows].view(len(matrix), -1, weight.shape[1])
            mine = rows[:, tied.channels]
            rows[:, tied.channels] = mine + matrix.mT @ mine
            weight[slot.rows] = rows.flatten(0, 1)
            new[slot.weight] = weight
    with substituted_weights(loaded, new):
        yield


def main(collection: str, length: int) -> None:
    """A row a tie and length."""
    loaded = smollm2_loaded()
    texts = {part: readable(loaded, collection, part, length, 1) for part in ("calibration", "development")}

    def read(part: str, tokens: int, count: int) -> Tensor:
        return windows(loaded.tokenizer, texts[part], tokens, count, 0, fewer=True).ids

    def nll(rope: RopeSpec, ids: Tensor) -> list[float]:
        return WindowScorer(loaded, rope, QuantSpec(), lambda step: None).nll(ids, None, "")

    ids = read("calibration", length, CALIBRATION)
    taken = capture(loaded, ROPE, ids, ROWS)
    unseen = [read("development", length, WINDOWS), read("development", SHORT, WINDOWS_SHORT)]
    untied = [nll(ROPE, one) for one in unseen]
    print("| pairs | tokens | windows | cost of the tie, nats | polished | seconds |\n|---|---|---|---|---|---|")
    for text in TIES:
        rope = replace(ROPE, tie=parse_ties(text))
        tied = Tied.of(loaded, rope, length)
        began = time.perf_counter()
        found = polished(taken, tied, loaded.geometry)
        seconds = time.perf_counter() - began
        for tokens, before in zip(unseen, untied, strict=True):
            costs = [nll(rope, tokens)]
            with in_place(loaded, tied, found):
                costs.append(nll(rope, tokens))
            cells = [cost(one, before) for one in costs]
            where = f"{ties_words(rope.tie)} | {tokens.shape[1]:,} | {len(tokens)}"
            print(f"| {where} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    print(
        f"\n{len(ids)} calibration windows of {ids.shape[1]:,} tokens of `{collection}`, {ROWS} queries of each, "
        f"{STEPS} steps of Adam a layer, seed 0; cost on development windows, 95 % intervals paired over windows."
    )


def cost(nll: list[float], before: list[float]) -> str:
    """NLL minus NLL without the tie, with its interval."""
    found = paired_interval(nll, before)
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
