"""The whole quantized model as a differentiable function of a transform: scales, angles, maps and K's offset.

`models.stream` rounds and keeps; here one window passes whole, scales are applied to q and k after RoPE
(both channels of a pair share a scale, so that this is the same as scaled weights), and rounding passes the
gradient straight through. Activations of every layer are held for the way back: for windows of some hundred
tokens, not for a long context. A residual cache holds its newest tokens exactly, as `quantizers.exact_keys` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.interpolations.frequencies import Rope, layer_ropes, rope_set, ropes_of
from qroar_core.maths.attention_error import channel_log2, mapped, rounded
from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.rope import rotate, unrotate
from qroar_core.maths.softmax_rule import SoftmaxRule
from qroar_core.maths.transform_point import TransformParts
from qroar_core.models.attention import attention_by, block_with_gradient
from qroar_core.models.condition import Condition
from qroar_core.models.kv_store import block_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import parameters_under, replaced_parameters, rounded_inputs
from qroar_core.quantizers.exact_keys import first_exact_key, next_rounding
from qroar_core.specs import Mode, QuantizerSpec
from qroar_core.transforms.scales import turned


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """K or V of one layer."""

    exact: Tensor  # (B, n_kv_heads, T, head_dim)
    rounded: Tensor  # the same
    block: int  # tokens rounded together; 1: none is ever read exactly

    def next_rounding(self, position: int) -> int:
        """The first query after `position` that reads other tokens exactly."""
        return self.exact.shape[2] if self.block == 1 else next_rounding(self.block, position)

    def read(self, start: int, stop: int) -> Tensor:
        """What queries start .. stop - 1 read, between two roundings."""
        if self.block == 1:
            return self.rounded[:, :, :stop]
        old = first_exact_key(self.block, start)
        return torch.cat([self.rounded[:, :, :old], self.exact[:, :, old:stop]], 2)


@dataclass(slots=True, eq=False)
class Trainable:
    """See `open_trainable`."""

    loaded: LoadedModel
    condition: Condition
    ropes: list[Rope]  # of each layer
    band: Tensor  # int64 (head_dim,), band of each channel, -1 for none
    mode: Mode
    groups: tuple[ChannelGroup, ...]
    point: Tensor = field(default_factory=lambda: torch.empty(0))

    def hidden(self, ids: Tensor, point: Tensor) -> Tensor:
        """Final hidden states (T, hidden_size) of one window ids (T,) at a point of maths/transform_point."""
        self.point = point.to(self.loaded.device, torch.promote_types(self.loaded.dtype, torch.float32))
        ids = ids[None].to(self.loaded.device)
        at = torch.arange(ids.shape[1], device=ids.device)[None]
        out = self.loaded.family.decoder(self.loaded.model)(input_ids=ids, position_ids=at, use_cache=False)
        return out.last_hidden_state[0]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, rule: SoftmaxRule) -> Tensor:
        """Called by transformers through models.attention."""
        quant = self.loaded.geometry.quant_at(layer, self.condition.quant)
        if layer not in self.loaded.geometry.without_rope:
            geo = self.loaded.geometry
            at = self.point[layer].to(q.device)
            log2_g, angles, matrices, _ = TransformParts.of(at, geo.n_pairs, self.groups)
            group, pairing = q.shape[1] // k.shape[1], geo.pairing
            up = channel_log2(log2_g, self.band)[:, None].exp2()  # (kv, 1, head_dim)
            down = 1 / up if self.mode == "symmetric" else up
            q, k = (q * up.repeat_interleave(group, 0)).to(q.dtype), (k * down).to(k.dtype)
            if angles is not None:
                q = turned(q, angles.repeat_interleave(group, 0), pairing).to(q.dtype)
                k = turned(k, angles, pairing).to(k.dtype)
            if matrices:
                matrix = whole_head(self.groups, matrices, geo.head_dim, geo.rotary_dim, pairing)
                each = q.unflatten(1, (k.shape[1], group)).flatten(2, 3)  # (B, kv, group * T, head_dim)
                each, mixed = mapped(each.to(matrix.dtype), k.to(matrix.dtype), matrix)
                q, k = each.unflatten(2, (group, -1)).flatten(1, 2).to(q.dtype), mixed.to(k.dtype)
        k_hat, v_hat = self._rounded(k, quant.k, layer), self._rounded(v, quant.v, layer)
        if quant.qk is not None:
            q, k, k_hat = (rounded(x, quant.qk) for x in (q, k, k_hat))
        keys, values = _Half(k, k_hat, block_of(quant.k)), _Half(v, v_hat, block_of(quant.v))
        start, out = 0, []
        while start < q.shape[2]:  # queries that read the same keys and values exactly, from `start` on
            stop = min(q.shape[2], keys.next_rounding(start), values.next_rounding(start))
            here, k_read, v_read = q[:, :, start:stop], keys.read(start, stop), values.read(start, stop)
            out.append(block_with_gradient(here, k_read, v_read, start, scaling, rule))
            start = stop
        return torch.cat(out, 2)

    def _rounded(self, x: Tensor, spec: QuantizerSpec | None, layer: int) -> Tensor:
        """K or V with every token rounded that a cache rounds sooner or later."""
        if spec is None or not spec.before_rope:
            return x if spec is None else rounded(x, spec)
        pairing, (cos, sin) = self.loaded.geometry.pairing, self.ropes[layer].cos_sin(0, x.shape[2], x.device)
        return rotate(rounded(unrotate(x, cos, sin, pairing), spec), cos, sin, pairing).to(x.dtype)


@contextmanager
def open_trainable(
    loaded: LoadedModel,
    condition: Condition,
    length: int,
    band: Tensor,
    mode: Mode,
    weights: Mapping[str, Tensor | None] | None = None,
    groups: tuple[ChannelGroup, ...] = (),
) -> Iterator[Trainable]:
    """Put `condition` (its scales aside) on the model; `hidden` may be called at any point meanwhile.

    The way back belongs inside the block: autograd looks the weights up again. They return bit for bit after it.

    Args:
        weights: `parameters_under(loaded, None, condition.quant.weights)`, where the caller keeps them. Rounded
            without scales, which is exact where every row has its own.
    """
    with loaded.lock, ExitStack() as stack:
        new = parameters_under(loaded, None, condition.quant.weights) if weights is None else weights
        stack.enter_context(replaced_parameters(loaded.model, new))
        stack.enter_context(rounded_inputs(loaded, condition.quant.activations))
        ropes = ropes_of(loaded, condition.rope, length)
        stack.enter_context(rope_set(loaded, ropes))
        made = Trainable(loaded, condition, layer_ropes(loaded.geometry, ropes), band.to(loaded.device), mode, groups)
        stack.enter_context(attention_by(made, *loaded.routing))
        stack.enter_context(loaded.family.intercept_attention(loaded.model))
        yield made
