"""The cached objective: how far quantized K moves attention, for scales not yet applied.

From q rows, k and v captured once, the damage of any scales g is computed without a forward pass, row by row and
summed over the query heads that read one KV head. With the moved logits  l^(g) = scaling * q^(g) . k^(g),  weights
p^(g) = softmax(l^(g))  and output  o^(g) = p^(g) v,  a file of `maths/error_metrics` says what damage is.

Keys that a cache of blocks still holds exactly when a row's query reads (quantizers.exact_keys) are exact
in it, V always is.
Layers and KV heads are independent, so all are searched side by side. With straight-through rounding each metric has
a gradient in log2 g. `benchmarks/objectives.py` asks which of them tells the NLL of unseen text beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.error_metric import MovedRows
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.maths.meters import onto
from qroar_core.maths.rope import Pairing, rotate, unrotate
from qroar_core.maths.softmax_rule import USUAL_SOFTMAX, SoftmaxRule
from qroar_core.maths.transform_point import TransformParts
from qroar_core.quantizers.exact_keys import first_exact_key
from qroar_core.quantizers.fake_quantize import calibrated_coordinates, fake_quantize, fake_quantize_ste
from qroar_core.specs import Mode, QuantizerSpec, QuantSpec
from qroar_core.transforms.scales import turned


@dataclass(frozen=True, slots=True, eq=False)
class CapturedLayer:
    """One layer's attention on one window: what the objective needs and nothing more.

    q: (n_heads, R, head_dim) rows; rows: their positions, int64 (R,). k, v: (n_kv_heads, T, head_dim).
    out: (n_heads, R, head_dim) unquantized attention output of the rows, under the same RoPE.
    rule: the layer's softmax. cos, sin: (T, rotary_dim // 2) of a layer
        that turns at its own speed, None for those of ErrorSetup.
    still: the layer carries no RoPE, so that its channels are in no band and take no scale.
    gate: (n_heads, R, head_dim), what the rows' output is multiplied by before W_O; None where nothing is.
    constant: (head_dim,), what RoPE makes of 1 in every channel of K that does not turn, 0 in those that do; None
        where no offset of K is searched.
    exact: q and k of the model that `out` is of, where those here are polished and turned as a tie has it; None: they
        are the same.
    """

    q: Tensor
    rows: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    rule: SoftmaxRule = USUAL_SOFTMAX
    cos: Tensor | None = None
    sin: Tensor | None = None
    still: bool = False
    gate: Tensor | None = None
    constant: Tensor | None = None
    exact: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ErrorSetup:
    """What stays the same for every candidate.

    band: int64 (head_dim,), band of each channel, -1 for none. metric: W_O,h^T W_O,h per layer,
    (n_heads, head_dim, head_dim). cos, sin: (T, rotary_dim // 2), for quantizers before RoPE.
    """

    quant: QuantSpec
    mode: Mode
    band: Tensor
    scaling: float
    pairing: Pairing
    cos: Tensor
    sin: Tensor
    error_metric: str  # a file of maths/error_metrics
    groups: tuple[ChannelGroup, ...] = ()  # whose matrices stand in a point
    offset: int = 0  # channels of K's offset at a point's end; 0: none is searched
    clip: Tensor | None = None  # the share of K's ranges that is kept, 0-dim; None: all


def channel_log2(log2_g: Tensor, band: Tensor) -> Tensor:
    """(kv, bands) -> (kv, head_dim); channels without a band get 0."""
    band = band.to(log2_g.device)
    padded = torch.cat((log2_g, torch.zeros_like(log2_g[..., :1])), dim=-1)
    return padded[..., torch.where(band >= 0, band, log2_g.shape[-1])]


def attention_error(
    layer: CapturedLayer,
    point: Tensor,
    metric: Tensor,
    setup: ErrorSetup,
    *,
    pick: Tensor | None = None,
    reference: bool = False,
) -> Tensor:
    """E(g) of every KV head of one layer on one window, row by row; (n_kv_heads, R), differentiable in the point.

    Args:
        point: (n_kv_heads, bands [+ pairs [+ numbers of the groups]] [+ head_dim]), see transform_point.
        metric: (n_heads, head_dim, head_dim).
        pick: which rows to use, int64; None takes all.
        reference: leave the quantizers out (what `shared` scales do to the unquantized logits).
    """
    q, rows, out, gate = layer.q, layer.rows, layer.out, layer.gate
    exact_q, exact_k = layer.exact or (q, layer.k)
    if pick is not None:
        q, rows, out, gate = q[:, pick], rows[pick], out[:, pick], None if gate is None else gate[:, pick]
        exact_q = exact_q[:, pick]
    last, kv, d = int(rows.max()) + 1, layer.k.shape[0], q.shape[-1]
    moved = MovedRows(
        layer.rule,
        _moved(layer, q, rows, point, setup, reference),
        distance(rows, last, layer.k.device),
        layer.v[:, :last],
        out,
        gate,
        metric,
        lambda: _logits(exact_q.reshape(kv, -1, d), exact_k[:, :last], len(rows), setup),
    )
    return error_metrics()[setup.error_metric].error(moved)


def _logits(q: Tensor, k: Tensor, rows: int, setup: ErrorSetup) -> Tensor:
    """q (n_kv_heads, group * R, head_dim) and k (n_kv_heads, keys, head_dim) -> (n_kv_heads, group, R, keys)."""
    return torch.matmul(q, k.mT).mul_(setup.scaling).view(k.shape[0], -1, rows, k.shape[1])


def _moved(layer: CapturedLayer, q: Tensor, rows: Tensor, point: Tensor, setup: ErrorSetup, reference: bool) -> Tensor:
    """Logits of q rows (n_heads, R, head_dim) as the runtime multiplies them under these scales, as `_logits`.

    Where K is rounded in blocks, each row reads the keys of the block that its own is in as they are.
    """
    last = int(rows.max()) + 1
    q, k = _scaled(layer, q, point, setup, last)
    if reference:
        return _logits(q, k, len(rows), setup)
    spec, active = setup.quant.k, setup.quant.qk
    q = _active(q, active)
    logits = _logits(q, _active(_cached(k, layer, setup, last), active), len(rows), setup)
    if spec is None or spec.block_tokens == 1:
        return logits
    exact_from = onto(first_exact_key(spec.block_tokens, rows), k.device)[:, None]
    held = torch.arange(last, device=k.device) >= exact_from  # (R, keys)
    return torch.where(held, _logits(q, _active(k, active), len(rows), setup), logits)


def _scaled(layer: CapturedLayer, q: Tensor, point: Tensor, setup: ErrorSetup, last: int) -> tuple[Tensor, Tensor]:
    """q rows (n_heads, R, head_dim) and the first `last` keys under these scales and angles, before any rounding.

    Returns:
        q (n_kv_heads, group * R, head_dim), k (n_kv_heads, last, head_dim).
    """
    kv, _, d = layer.k.shape
    pairs = setup.cos.shape[-1]
    parts = TransformParts.of(point.to(layer.k.device), pairs, setup.groups, setup.offset)
    log2_g, angles, matrices, offset = parts
    band = torch.full_like(setup.band, -1) if layer.still else setup.band
    up = channel_log2(log2_g, band)[:, None].exp2()  # (kv, 1, d)
    q = q.reshape(kv, -1, d) * up
    k = layer.k[:, :last]
    if offset is not None and layer.constant is not None:
        k = k - (offset * layer.constant)[:, None]
    k = k * (1 / up if setup.mode == "symmetric" else up)
    if angles is not None and not layer.still:
        q, k = turned(q, angles, setup.pairing), turned(k, angles, setup.pairing)
    if matrices and not layer.still:
        q, k = mapped(q, k, whole_head(setup.groups, matrices, d, 2 * pairs, setup.pairing))
    return q, k


def mapped(q: Tensor, k: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """q (..., rows, head_dim) and k (..., tokens, head_dim) under a matrix on k (..., head_dim, head_dim).

    q' = M^-T q, as rows q M^-1; k' = M k, as rows k M^T: their products stay.
    """
    return q @ torch.linalg.inv(matrix), k @ matrix.mT


def rounded(x: Tensor, spec: QuantizerSpec, clip: Tensor | None = None) -> Tensor:
    """x as `spec` gives it back, straight through where x has a gradient; a static scale is this x's own range."""
    absmax = calibrated_coordinates(x.detach(), spec).abs().max() if spec.needs_calibration else None
    if torch.is_grad_enabled() and x.requires_grad:
        return fake_quantize_ste(x, spec, absmax=absmax, clip=clip)
    return fake_quantize(x, spec, absmax=absmax, clip=clip)


def _active(x: Tensor, spec: QuantizerSpec | None) -> Tensor:
    return x if spec is None else rounded(x, spec)


def _cached(k: Tensor, layer: CapturedLayer, setup: ErrorSetup, last: int) -> Tensor:
    """K as the cache gives it back once it has rounded all of it."""
    spec = setup.quant.k
    if spec is None:
        return k
    if not spec.before_rope:
        return rounded(k, spec, setup.clip)
    cos = (setup.cos if layer.cos is None else layer.cos)[:last]
    sin = (setup.sin if layer.sin is None else layer.sin)[:last]
    return rotate(rounded(unrotate(k, cos, sin, setup.pairing), spec, setup.clip), cos, sin, setup.pairing)


def output_of(
    q: Tensor, rows: Tensor, k: Tensor, v: Tensor, scaling: float, rule: SoftmaxRule = USUAL_SOFTMAX
) -> Tensor:
    """Unquantized attention output of some rows; shapes as in `CapturedLayer`."""
    kv, d = k.shape[0], k.shape[-1]
    logits = torch.matmul(q.reshape(kv, -1, d), k.mT).mul_(scaling).view(kv, -1, len(rows), k.shape[1])
    p = rule.weights(logits, distance(rows, k.shape[1], k.device))
    return torch.matmul(p.flatten(1, 2), v).view(*q.shape[:-1], -1)


def distance(rows: Tensor, keys: int, device: torch.device) -> Tensor:
    """Position of each row minus that of each key, (R, keys)."""
    return onto(rows[:, None], device) - torch.arange(keys, device=device)[None]


def output_metric(w_o: Tensor, n_heads: int) -> Tensor:
    """W_O,h^T W_O,h of each query head, (n_heads, head_dim, head_dim), from W_O (hidden, n_heads * head_dim)."""
    per_head = w_o.float().view(w_o.shape[0], n_heads, -1).transpose(0, 1)  # (heads, hidden, d)
    return per_head.mT @ per_head
