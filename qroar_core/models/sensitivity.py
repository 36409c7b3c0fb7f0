"""What rounding a few channels of one layer alone would cost, for all layers and bands from one backward pass a window.

To second order in the rounding error d of a cell's channels, the divergence it causes is a Fisher form,

    KL = 1/2 E_y [ (sum G(y) . d)^2 ],   G(y) = d sum_t ln p(y_t) / d(q, k),

y_t drawn from the reference's own predictions. Errors of tokens further apart than a block of TOGETHER tokens, and of
different heads, are taken as independent: the square of the sum becomes a sum of squares, thousands of draws in one.
What of a key's error is the same for all keys is left out first: softmax does not see it. A forward pass a cell would
measure the KL without these approximations; `benchmarks/predict.py` compares the two. A router of experts that
switches is not seen: there the true KL may be several times larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from qroar_core.interpolations.frequencies import Rope, layer_ropes, rope_set, ropes_of
from qroar_core.maths.meters import accumulator_device
from qroar_core.maths.scatter_gather import gathered
from qroar_core.maths.softmax_rule import SoftmaxRule
from qroar_core.models.attention import attention_by, block_with_gradient, causal_block
from qroar_core.models.condition import Condition
from qroar_core.models.finite import non_finite
from qroar_core.models.kv_store import block_of, rounder
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import parameters_under, replaced_parameters
from qroar_core.models.score import LOGIT_ENTRIES, logits_of
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.quantizers.exact_keys import next_rounding
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.specs import QuantizerSpec

TOGETHER = 8  # tokens; neighbours' errors are alike in slow pairs


@dataclass(slots=True, eq=False)
class _Probed:
    """The unquantized model on one window; every layer's q and k have a gradient and know their rounding error."""

    loaded: LoadedModel
    condition: Condition
    ropes: list[Rope]  # of each layer
    probes: dict[tuple[int, str], Tensor] = field(default_factory=dict)  # (layer, "q" or "k") -> zeros, added
    errors: dict[tuple[int, str], Tensor] = field(default_factory=dict)  # ... -> rounding error, same shape

    def hidden(self, ids: Tensor) -> Tensor:
        """Final hidden states (T, hidden_size) of one window ids (T,)."""
        self.probes, self.errors = {}, {}
        ids = ids[None].to(self.loaded.device)
        at = torch.arange(ids.shape[1], device=ids.device)[None]
        out = self.loaded.family.decoder(self.loaded.model)(input_ids=ids, position_ids=at, use_cache=False)
        return out.last_hidden_state[0]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, rule: SoftmaxRule) -> Tensor:
        """Called by transformers through models.attention."""
        with torch.no_grad():
            spec = self.loaded.geometry.quant_at(layer, self.condition.quant).k
            k_hat = k if spec is None else self._cached(k, spec, layer)
            k_error = self._active(k_hat, layer, "k_active") - k
            block = block_of(spec)
            if block == 1 and rule.softcap is None and rule.sinks is None:
                k_error -= k_error.mean(2, keepdim=True)  # what all keys share moves every logit of a row alike
            self.errors[layer, "k"], self.errors[layer, "q"] = k_error, self._active(q, layer, "q") - q
            if block > 1 and self.condition.quant.qk is not None:  # of keys that the cache holds exactly
                self.errors[layer, "k held"] = self._active(k, layer, "k_active") - k
        for name in ("q", "k", "k held"):
            if (layer, name) in self.errors:
                self.probes[layer, name] = torch.zeros_like(self.errors[layer, name], requires_grad=True)
        q, read = q + self.probes[layer, "q"], k + self.probes[layer, "k"]
        if block == 1:
            return causal_block(q, read, v, 0, scaling, rule)
        held, out = k + self.probes[layer, "k held"] if (layer, "k held") in self.probes else k, []
        for start in range(0, k.shape[2], block):  # queries of one block read the same keys exactly
            stop = min(next_rounding(block, start), k.shape[2])
            keys = torch.cat([read[:, :, :start], held[:, :, start:stop]], 2)
            out.append(block_with_gradient(q[:, :, start:stop], keys, v[:, :, :stop], start, scaling, rule))
        return torch.cat(out, 2)

    def _cached(self, k: Tensor, spec: QuantizerSpec, layer: int) -> Tensor:
        """K as a cache gives it back that has rounded all of it."""
        static = self.condition.static
        at = None if static is None or static.k is None else static.k[layer]
        share = None if self.condition.clip.k is None else self.condition.clip.k[layer]
        turns = partial(self.ropes[layer].cos_sin, device=k.device)
        round_k = rounder(spec, self.loaded.geometry, turns, at, share)
        assert round_k is not None
        return round_k(k, 0)

    def _active(self, x: Tensor, layer: int, which: str) -> Tensor:
        spec, ranges = self.condition.quant.qk, getattr(self.condition.static, which, None)
        return x if spec is None else fake_quantize(x, spec, absmax=None if ranges is None else ranges[layer])


def second_order_kl(
    loaded: LoadedModel,
    condition: Condition,
    ids: Tensor,
    parts: Tensor,
    *,
    seed: int = 0,
    on_step: OnStep = no_progress,
) -> Tensor:
    """KL(reference || one layer's one part rounded) of every layer and part, nats per token, to second order.

    Args:
        condition: RoPE and the quantizers of K and of q and k; weights and V stay exact.
        ids: windows (W, T); every position predicts, the last too.
        parts: int64 (layers, head_dim), which part each channel belongs to, 0 to P - 1.
    Returns:
        (layers, P), float64 on the CPU.
    Raises:
        NonFinite: an activation, a logit or a gradient that is no number.
    """
    generator, count = torch.Generator().manual_seed(seed), int(parts.max()) + 1
    total = [torch.zeros(count, dtype=torch.float64, device=accumulator_device(device)) for device in loaded.devices()]
    with _open(loaded, condition, ids.shape[1]) as model:
        for w, window in enumerate(ids):
            on_step(Step("sensitivity", w, len(ids), f"backward pass {w + 1} of {len(ids)}"))
            with torch.enable_grad():
                hidden = model.hidden(window)
            slope = _score_gradient(loaded, hidden.detach(), generator)
            found = torch.autograd.grad(hidden, list(model.probes.values()), slope)
            for (layer, name), gradient in zip(model.probes, found, strict=True):
                moved = (gradient * model.errors[layer, name])[0]  # (heads, T, head_dim)
                total[layer] += _squares(moved, parts[layer], count) / 2
    kl = gathered(total) / ids.numel()
    bad = (~kl.isfinite()).nonzero()
    if len(bad):
        raise non_finite(f"the second-order KL of layer {int(bad[0][0])}", condition, loaded.dtype)
    return kl


def _squares(moved: Tensor, part: Tensor, count: int) -> Tensor:
    """Sum over heads and blocks of tokens of the squared sum inside a block, part by part; (count,) float64.

    Args:
        moved: (heads, T, head_dim). part: (head_dim,).
    """
    blocks = pad(moved, (0, 0, 0, -moved.shape[1] % TOGETHER)).unflatten(1, (-1, TOGETHER)).sum(2)
    of_channel = one_hot(part, count).to(blocks)  # (head_dim, count)
    return (blocks @ of_channel).to(accumulator_device(moved.device), torch.float64).square().sum((0, 1))


def _score_gradient(loaded: LoadedModel, hidden: Tensor, generator: torch.Generator) -> Tensor:
    """d sum_t ln p(y_t) / d hidden, (T, hidden_size), y_t drawn from p; slice by slice, as `score.kl_gradient`."""
    slope = torch.zeros_like(hidden)
    step = max(1, LOGIT_ENTRIES // loaded.geometry.vocab_size // 4)
    for i in range(0, len(hidden), step):
        here = hidden[i : i + step].clone().requires_grad_(True)
        with torch.enable_grad():
            log_p = logits_of(loaded, here).log_softmax(-1)
            log_p.gather(1, _drawn(log_p.detach().exp(), generator)).sum().backward()
        slope[i : i + step] = torch.as_tensor(here.grad)
    return slope


def _drawn(p: Tensor, generator: torch.Generator) -> Tensor:
    """One index of each row of p (n, choices), (n, 1), by a generator of the CPU; p does not come to the host."""
    if p.device.type == "cpu":
        return torch.multinomial(p.nan_to_num(1.0, 1.0), 1, generator=generator)  # NaN shows in what is summed
    below = p.cumsum(-1)
    u = 1 - torch.rand(len(p), 1, generator=generator)  # in (0, 1]: never an index of probability 0
    return torch.searchsorted(below, u.to(below) * below[:, -1:])


@contextmanager
def _open(loaded: LoadedModel, condition: Condition, length: int) -> Iterator[_Probed]:
    with loaded.lock, ExitStack() as stack:
        stack.enter_context(replaced_parameters(loaded.model, parameters_under(loaded, condition.scales, None)))
        ropes = ropes_of(loaded, condition.rope, length)
        stack.enter_context(rope_set(loaded, ropes))
        model = _Probed(loaded, condition, layer_ropes(loaded.geometry, ropes))
        stack.enter_context(attention_by(model, *loaded.routing))
        stack.enter_context(loaded.family.intercept_attention(loaded.model))
        yield model
