"""One pass that keeps what the cached objective needs: q at sampled rows, k and v at every position."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.maths.attention_error import CapturedLayer, output_metric, output_of
from qroar_core.maths.meters import onto
from qroar_core.maths.positions import Sampled
from qroar_core.maths.rope import pair_index
from qroar_core.maths.scatter_gather import gathered
from qroar_core.models.gates import Gates, gates_of
from qroar_core.models.geometry import Geometry
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import AttentionTap, Condition, Stream, drain, open_stream
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec

FIRST_ROW = 32  # rows before this see too few keys to tell quantizers apart


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """`windows[w][layer]`, W_O's metric per layer, and the range of K per band channel."""

    windows: list[list[CapturedLayer]]
    metric: list[Tensor]  # per layer (n_heads, head_dim, head_dim)
    k_absmax: Tensor  # (layers, n_kv_heads, head_dim), after RoPE
    k_second_moment: Tensor  # (layers, n_kv_heads, head_dim, head_dim), sum of k k^T over all tokens, float64
    scaling: float
    cos: Tensor
    sin: Tensor


@dataclass(slots=True, eq=False)
class _Keeper:
    rows: Sampled
    length: int
    stream: Stream
    gates: Gates
    offset: bool
    gate: dict[int, list[Tensor]] = field(default_factory=dict)
    q: dict[int, list[Tensor]] = field(default_factory=dict)
    layers: dict[int, CapturedLayer] = field(default_factory=dict)
    scaling: float = 1.0

    def on_attention(self, tap: AttentionTap) -> None:
        stop = tap.start + tap.k.shape[1]
        here = self.rows.index(tap.start, stop, tap.q.device)
        self.q.setdefault(tap.layer, []).append(tap.q[:, here].float())
        self.scaling = tap.scaling
        if tap.layer in self.gates:
            rows = self.gates[tap.layer][tap.row, here].transpose(0, 1)  # (n_heads, rows, head_dim)
            self.gate.setdefault(tap.layer, []).append(rows.float())
        if stop == self.length:
            q, k, v = torch.cat(self.q.pop(tap.layer), dim=1), tap.k_seen.float(), tap.v_seen.float()
            k, v = k.clone(), v.clone()
            out = output_of(q, self.rows.positions, k, v, tap.scaling, tap.rule)
            geo = self.stream.loaded.geometry
            still = tap.layer in geo.without_rope
            at_home = k.device == self.stream.loaded.device  # where the one table of all layers is
            alike = not still and geo.kind_of(tap.layer) == geo.interpolated_kind and at_home
            cos, sin = (None, None) if alike else self.stream.cos_sin(0, self.length, tap.layer)
            gate = torch.cat(self.gate.pop(tap.layer), dim=1) if tap.layer in self.gates else None
            constant = None
            if self.offset:
                constant = constant_of(geo, tap.layer, *self.stream.cos_sin(0, self.length, tap.layer))
            self.layers[tap.layer] = CapturedLayer(
                q, self.rows.positions, k, v, out, tap.rule, cos, sin, still, gate, constant
            )

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        pass


def constant_of(geometry: Geometry, layer: int, cos: Tensor, sin: Tensor) -> Tensor:
    """What RoPE makes of 1 in each channel of the layer's k that does not turn, 0 in others; (head_dim,).

    Args:
        cos, sin: (T, pairs), of the layer.
    """
    out = torch.ones(geometry.head_dim, device=cos.device)
    if layer not in geometry.without_rope:
        pair = torch.where((sin == 0).all(0), cos[0], 0.0).float()  # (pairs,): a turning one has some sine
        at = onto(pair_index(geometry.head_dim, geometry.rotary_dim, geometry.pairing), cos.device)
        out = torch.where(at >= 0, pair[at.clamp_min(0)], out)
    return out


def capture(
    loaded: LoadedModel,
    rope: RopeSpec,
    ids: Tensor,
    query_rows: int,
    *,
    chunk: int = 512,
    seed: int = 0,
    on_step: OnStep = no_progress,
    first_row: int = 0,
    offset: bool = False,
) -> Capture:
    """Read ids (windows, length) once, unquantized, under `rope`.

    Args:
        first_row: no row before it is sampled, and none before FIRST_ROW; the last one where a window ends before it.
        offset: note which channels of K do not turn.
    """
    count, length = ids.shape
    geo = loaded.geometry
    generator = torch.Generator().manual_seed(seed)
    windows, scaling = [], 1.0
    absmax = torch.zeros(geo.n_layers, geo.n_kv_heads, geo.head_dim)
    moment = torch.zeros(geo.n_layers, geo.n_kv_heads, geo.head_dim, geo.head_dim, dtype=torch.float64)
    with open_stream(loaded, Condition(rope), length, chunk=chunk) as stream, gates_of(loaded) as gates:
        for w in range(count):
            on_step(Step("search", w, count, "read the calibration text"))
            first = min(max(FIRST_ROW, first_row), length - 1)
            picked = torch.randperm(length - first, generator=generator)[:query_rows].sort().values + first
            keeper = _Keeper(Sampled(picked), length, stream, gates, offset)
            drain(stream.run(ids[w], (keeper,)))
            layers = [keeper.layers[i] for i in range(geo.n_layers)]
            windows.append(layers)
            scaling = keeper.scaling
            absmax = torch.maximum(absmax, gathered([x.k.abs().amax(1) for x in layers]))
            moment += gathered([x.k.mT @ x.k for x in layers])
        cos, sin = stream.cos_sin(0, length)
    parameters = dict(loaded.model.named_parameters())
    weights = [loaded.family.output_projection(geo.decoder_layer(layer)) for layer in range(geo.n_layers)]
    metric = [output_metric(parameters[name].data, geo.n_heads) for name in weights]
    return Capture(windows, metric, absmax, moment, scaling, cos, sin)
