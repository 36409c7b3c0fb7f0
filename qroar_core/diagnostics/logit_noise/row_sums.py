"""Running sums of sampled query rows over blocks of keys: squared noise, spread, and both softmaxes for the KL."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.maths.running_softmax import grown


class RowSums:
    """Running sums of query rows over blocks of keys: squared noise, and both softmaxes for the KL.

    With p = softmax(l) of the reference and q of l + e, KL(p || q) = -E_p[e] - ln Z_l + ln Z_(l + e): three sums
    per row and head, rescaled whenever the largest logit so far grows.

    Args:
        parts: of the noise, the whole one included. octaves: of distances. head_dim: of keys, where q is rounded.
    """

    def __init__(
        self, parts: int, heads: int, rows: int, octaves: int, device: torch.device, head_dim: int = 0
    ) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        self.square = zeros(parts, rows)  # the whole noise last
        self.count = zeros(rows)  # of (head, key)
        self.by_octave = zeros(2, rows, octaves)  # of distances: the whole noise squared, and its count
        self.moments = zeros(4, heads, rows)  # sums over keys: logit, its square, noise, its square
        self.top, self.top_hat = zeros(heads, rows) - torch.inf, zeros(heads, rows) - torch.inf
        self.z, self.z_hat, self.cross = zeros(heads, rows), zeros(heads, rows), zeros(heads, rows)
        self.tilt = zeros(2, 2, heads, rows)  # of keys read rounded and read exactly: sums of p d^2 and of its p-fold
        self.key_size = zeros(heads, rows)  # sum of p d^2 |k|^2
        self.key_mean = zeros(heads, rows, head_dim)  # sum of p d k

    def add_sinks(self, sinks: Tensor) -> None:
        """One entry of each softmax that no noise moves; sinks (heads,), before any block."""
        for top, z in ((self.top, self.z), (self.top_hat, self.z_hat)):
            top.copy_(sinks[:, None])
            z.fill_(1.0)

    def add_softmax(
        self,
        block: slice,
        logits: Tensor,
        noise: Tensor,
        visible: Tensor,
        slope: Tensor | None = None,
        held: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> None:
        """Add logits and noise (H, R, N), float64, where visible (R, N).

        Args:
            slope: of the logits by what the noise was added to, (H, R, N); None: 1. held: bool (R, N), keys that are
                read exactly; None: none is. keys: (KV, N, head_dim), where queries are rounded.
        """
        here = (slice(None), block)
        logits = logits.masked_fill(~visible, -torch.inf)
        weight, self.top[here], self.z[here], before = grown(self.top[here], self.z[here], logits)
        self.cross[here] = self.cross[here] * before - (weight * noise).sum(-1)
        size = weight if slope is None else weight * slope.square()
        self.tilt[:, :, :, block] *= torch.stack([before, before.square()])
        for i, kind in enumerate((size,) if held is None else (size.masked_fill(held, 0.0), size * held)):
            for power, sums in ((1, kind), (2, kind * weight)):
                self.tilt[i, power - 1, :, block] += sums.sum(-1)
        if keys is not None:
            self.key_size[here] *= before
            self.key_size[here] += _of_keys(size, keys.square().sum(-1, keepdim=True))[..., 0]
            self.key_mean[here] *= before[..., None]
            self.key_mean[here] += _of_keys(weight if slope is None else weight * slope, keys)
        _, self.top_hat[here], self.z_hat[here], _ = grown(self.top_hat[here], self.z_hat[here], logits + noise)

    def add_moments(self, block: slice, logits: Tensor, noise: Tensor, visible: Tensor) -> None:
        """Add logits and noise (H, R, N), float64, before a cap."""
        seen = logits.masked_fill(~visible, 0.0)
        sums = [x.sum(-1) for x in (seen, seen.square(), noise, noise.square())]
        self.moments[:, :, block] += torch.stack(sums)

    def add_octaves(self, block: slice, octave: Tensor, square: Tensor, count: Tensor) -> None:
        """Add the whole noise squared and how many it is of, (R, N) each, under the octave of their distance."""
        for at, values in enumerate((square, count)):
            self.by_octave[at, block] = self.by_octave[at, block].scatter_add(1, octave, values)

    def spread(self) -> Tensor:
        """Expected variance of a row's noise under its weights, by what the noise comes from: (3, heads, rows).

        Errors of variance 1 drawn for each key, at keys read rounded and at those read exactly: sum of p d^2 (1 - p).
        Last an error of the query, one for the whole row and of variance 1 in each channel: the keys' own variance,
        sum of p d^2 |k|^2 less |sum of p d k|^2.
        """
        of_keys = self.tilt[:, 0] / self.z - self.tilt[:, 1] / self.z.square()
        of_query = self.key_size / self.z - (self.key_mean / self.z[..., None]).square().sum(-1)
        return torch.cat([of_keys, of_query.clamp(min=0)[None]])

    def table(self, rows: Tensor) -> Tensor:
        """(rows, parts + 4): position, mean squares, KL and variances of logits and noise averaged over heads."""
        kl = self.cross / self.z - (self.top + self.z.log()) + (self.top_hat + self.z_hat.log())
        kl = kl.clamp(min=0).mean(0)  # rounding may dip below 0
        mean = self.moments / (self.count / self.moments.shape[1])
        variances = (mean[1::2] - mean[::2].square()).clamp(min=0).mean(1)  # (2, rows)
        return torch.cat([rows[:, None].double(), (self.square / self.count).T, kl[:, None], variances.T], 1)


def _of_keys(weight: Tensor, keys: Tensor) -> Tensor:
    """Sum over keys of weight (H, R, N) times what each KV head has of them, (KV, N, width): (H, R, width)."""
    grouped = weight.reshape(keys.shape[0], -1, keys.shape[1])  # (KV, G * R, N)
    return (grouped @ keys).reshape(*weight.shape[:2], -1)
