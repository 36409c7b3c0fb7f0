"""What rounding the channels of one band alone does to the attention logits, from sampled query rows.

K is rounded as a whole, per token and KV head, and only one part of the error is kept at a time: with e the part's
error on the logits, its RMS, and the KL of the attention row from the softmax of l to that of l + e. Everything in
float64, block of keys by block of keys with running sums: nothing grows with the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.bands.channel_products import ChannelProducts
from qroar_core.maths.meters import accumulator_device, onto
from qroar_core.maths.running_softmax import grown
from qroar_core.maths.softmax_rule import SoftmaxRule

KEY_BLOCK = 1024  # keys taken at once, whatever the chunk: the sums do not depend on it
ELEMENTS = 1_000_000  # (head, row, key) products held at once


@dataclass(frozen=True, slots=True, eq=False)
class PartCost:
    """Of every part of the channels, rounded alone; float64, (parts,), where q is. NaN where a part has no channels."""

    noise: Tensor  # RMS of the logit error over heads, visible keys and rows, nats
    kl: Tensor  # KL(exact || rounded) of the attention row, mean over heads and rows, nats
    energy: Tensor  # squared error of K, summed over KV heads and keys
    square: Tensor  # (parts, rows), mean square of the logit error of each row: `noise` is the root of its mean
    products: Tensor  # (head_dim, head_dim), of which `noise_of` reads the noise of any other part


@dataclass(slots=True, eq=False)
class _Softmaxes:
    """Running sums of some rows: the exact softmax, and one more for every part."""

    top: Tensor  # (H, R)
    z: Tensor
    top_hat: Tensor  # (parts, H, R)
    z_hat: Tensor
    cross: Tensor  # sum of the exact weights times the part's error
    square: Tensor  # (parts, R)
    count: Tensor  # (R,), of (head, key)

    @classmethod
    def of(cls, parts: int, heads: int, rows: int, sinks: Tensor | None, device: torch.device) -> _Softmaxes:
        def full(value: float, *shape: int) -> Tensor:
            return torch.full(shape, value, dtype=torch.float64, device=device)

        shape = (heads, rows)
        found = cls(
            full(-torch.inf, *shape),
            full(0.0, *shape),
            full(-torch.inf, parts, *shape),
            full(0.0, parts, *shape),
            full(0.0, parts, *shape),
            full(0.0, parts, rows),
            full(0.0, rows),
        )
        if sinks is not None:  # an entry of every softmax that no error moves
            at = sinks.to(device, torch.float64)[:, None]
            found.top, found.z = at.expand(shape).clone(), full(1.0, *shape)
            found.top_hat, found.z_hat = at.expand(parts, *shape).clone(), full(1.0, parts, *shape)
        return found

    def add(self, part: int, logits: Tensor, error: Tensor, before: Tensor, weight: Tensor) -> None:
        """One part's error (H, R, N) on logits (H, R, N), -inf where a key is not seen."""
        self.cross[part] = self.cross[part] * before + (weight * error).sum(-1)
        _, self.top_hat[part], self.z_hat[part], _ = grown(self.top_hat[part], self.z_hat[part], logits + error)

    def kl(self) -> Tensor:
        """(parts,): KL = -E[e] - ln Z + ln Z^, mean over heads and rows; rounding may dip below 0."""
        exact, moved = self.top + self.z.log(), self.top_hat + self.z_hat.log()
        return (moved - exact - self.cross / self.z).clamp(min=0).mean((1, 2))


def part_costs(
    q: Tensor,
    rows: Tensor,
    k: Tensor,
    rounded: Callable[[Tensor], Tensor],
    parts: Sequence[Tensor],
    scaling: float,
    rule: SoftmaxRule,
) -> PartCost:
    """Cost of rounding each part of K's channels alone.

    Args:
        q: (heads, R, head_dim) at positions `rows` (R,), ascending, on the CPU.
        k: (n_kv_heads, N, head_dim), N > max(rows).
        rounded: K of some tokens as a quantizer gives it back.
        parts: channels of each part, int64.
    """
    device, last = accumulator_device(q.device), int(rows.max()) + 1
    q = q.to(device, torch.float64) * scaling
    products = ChannelProducts(q, rows, rule, last, KEY_BLOCK)
    rows, parts = onto(rows, device), [onto(channels, device) for channels in parts]
    heads, count = q.shape[:2]
    sums = _Softmaxes.of(len(parts), heads, count, rule.sinks, device)
    energy = torch.zeros(len(parts), dtype=torch.float64, device=device)
    for start in range(0, last, KEY_BLOCK):
        here = k[:, start : min(start + KEY_BLOCK, last)]
        error = (rounded(here).float() - here.float()).to(device, torch.float64)
        products.add(start, error)
        here = here.to(device, torch.float64)
        energy += torch.stack([error[..., channels].square().sum() for channels in parts])
        size = max(1, ELEMENTS // (heads * here.shape[1]))
        for first in range(0, count, size):
            block = slice(first, first + size)
            distance = rows[block, None] - torch.arange(start, start + here.shape[1], device=device)
            _block(sums, block, q[:, block], here, error, parts, rule, rule.visible(distance))
    square = sums.square / sums.count
    found = (square.mean(1).sqrt(), sums.kl(), energy, square)
    noise, kl, energy, square = (_only_with_channels(x, parts) for x in found)
    return PartCost(noise, kl, energy, square, products.mean)


def _only_with_channels(found: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """NaN where a part has no channels; without a mask from the host, which a device would have to wait for."""
    return torch.stack([one if len(channels) else one * torch.nan for one, channels in zip(found, parts, strict=True)])


def _block(
    sums: _Softmaxes,
    at: slice,
    q: Tensor,
    k: Tensor,
    error: Tensor,
    parts: Sequence[Tensor],
    rule: SoftmaxRule,
    visible: Tensor,
) -> None:
    mine = _Softmaxes(
        sums.top[:, at],
        sums.z[:, at],
        sums.top_hat[:, :, at],
        sums.z_hat[:, :, at],
        sums.cross[:, :, at],
        sums.square[:, at],
        sums.count[at],
    )
    raw = _logits(q, k)
    logits = raw if rule.softcap is None else rule.capped(raw)
    weight, top, z, before = grown(mine.top, mine.z, logits.masked_fill(~visible, -torch.inf))
    mine.count += visible.sum(1).double() * len(q)
    for part, channels in enumerate(parts):
        if len(channels) == 0:
            continue
        noise = _logits(q[..., channels], error[..., channels]).masked_fill_(~visible, 0.0)
        mine.square[part] += noise.square().sum((0, 2))
        moved = noise if rule.softcap is None else rule.capped(raw + noise) - logits
        mine.add(part, logits.masked_fill(~visible, -torch.inf), moved, before, weight)
    sums.top[:, at], sums.z[:, at] = top, z


def _logits(q: Tensor, k: Tensor) -> Tensor:
    """q . k of q (H, R, channels) and k (KV, N, channels), (H, R, N)."""
    grouped = q.reshape(k.shape[0], -1, q.shape[-1])  # (KV, G * R, channels)
    return (grouped @ k.mT).reshape(*q.shape[:2], -1)
