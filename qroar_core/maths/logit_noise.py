"""Logit noise by position: what rounding q and k does to the attention logits, from sampled query rows.

noise_mn = scaling * (q^_m . k^_n - q_m . k_n), nats, splits over the bands without remainder,

    noise_mn = sum_b scaling * (q^_b . (k^ - k)_b + (q^ - q)_b . k_b),

the channels without rotation being one more part. Beside it the KL of each attention row, reference to
quantized.
Rows are sampled and taken in blocks against the keys they see: never L x L. q and k come after RoPE.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1_000_000  # (band, head, row, key) products held at once
MASKED = -1e30  # finite, so that a masked difference of log-probabilities is 0 and not NaN


@dataclass(frozen=True, slots=True, eq=False)
class LogitNoise:
    """Noise of one layer, heads pooled; CPU float64.

    position: (rows,) int64, ascending. rms: (rows,), nats. rms_by_band: (rows, bands). kl: mean over heads of
    KL(reference || quantized) of the attention row, nats, (rows,).
    distance: (distance bins,) int64, first distance of each octave, 2^j - 1. rms_by_distance: (distance
        bins,);
    band_rms_by_distance: (bands, distance bins); NaN in bins without samples.
    """

    position: Tensor
    rms: Tensor
    rms_by_band: Tensor
    kl: Tensor
    distance: Tensor
    rms_by_distance: Tensor
    band_rms_by_distance: Tensor


class LogitNoiseMeter:
    """Accumulates LogitNoise of one layer.

    Args:
        band_of_channel: int64 (head_dim,), -1 in no band.
        length: L, tokens; the largest distance is L - 1.
        scaling: of the softmax.
        window: sliding attention window, tokens (a row sees keys at distance < window); None for full
            attention.
    """

    def __init__(
        self, band_of_channel: Tensor, length: int, scaling: float, window: int | None = None
    ) -> None:
        self.bands = int(band_of_channel.max()) + 1
        self.scaling, self.window = scaling, window
        parts = [*range(self.bands), -1] if bool((band_of_channel < 0).any()) else range(self.bands)
        members = [torch.nonzero(band_of_channel == b)[:, 0] for b in parts]
        # channels of each part, padded to the widest with one past the end: a channel of zeros
        self.channels = torch.nn.utils.rnn.pad_sequence(
            members, batch_first=True, padding_value=len(band_of_channel)
        )
        octaves = max(length, 1).bit_length()
        # rows: the parts, then the whole noise
        self.distance_sum = torch.zeros(len(members) + 1, octaves, dtype=torch.float64)
        self.distance_count = torch.zeros(octaves, dtype=torch.float64)
        self.rows: list[Tensor] = []  # (rows, parts + 3): position, parts, whole, kl

    def update(self, q: Tensor, rows: Tensor, k: Tensor, k_hat: Tensor, q_hat: Tensor | None = None) -> None:
        """Add sampled query rows against every key they see.

        Args:
            q: (heads, R, head_dim) reference; rows: positions, int64 (R,).
            k, k_hat: (n_kv_heads, N, head_dim), reference and quantized keys of positions 0..N-1, N >
                max(rows).
            q_hat: quantized q, or None where q is not quantized.
        Raises:
            ValueError: a row sees keys that are not there.
        """
        if len(rows) == 0:
            return
        if int(rows.max()) >= k.shape[1]:
            raise ValueError(f"row {int(rows.max())} needs as many keys, got {k.shape[1]}")
        rows, order = rows.cpu().sort()
        q = q[:, order].float()
        q_hat = q if q_hat is None else q_hat[:, order].float()
        k = k.float()
        k_error = self._by_part((k_hat.float() - k).mT)  # (parts, KV, channels, N)
        k_parts = None if q_hat is q else self._by_part(k.mT)
        first = 0
        while first < len(rows):
            # rows ascend, so the block's last row sets how many keys it needs
            end = first + 1
            cost = len(self.channels) * q.shape[0]
            while end < len(rows) and cost * (end + 1 - first) * (int(rows[end]) + 1) <= BLOCK_ELEMENTS:
                end += 1
            keys = slice(0, int(rows[end - 1]) + 1)
            block = slice(first, end)
            noise = self._parts(q_hat[:, block], k_error[..., keys])
            if k_parts is not None:
                noise += self._parts(q_hat[:, block] - q[:, block], k_parts[..., keys])
            self._block(self._logits(q[:, block], k[:, keys]), noise, rows[block])
            first = end

    def _by_part(self, x: Tensor) -> Tensor:
        """Split (KV, head_dim, T) into (parts, KV, channels of the widest part, T), padded with zeros."""
        padded = torch.nn.functional.pad(x, (0, 0, 0, 1))
        picked = padded.index_select(1, self.channels.flatten().to(x.device))
        return picked.unflatten(1, self.channels.shape).transpose(0, 1)

    def _logits(self, q: Tensor, k: Tensor) -> Tensor:
        """scaling * q . k of q (H, R, head_dim) and k (KV, N, head_dim): (H, R, N)."""
        grouped = (q * self.scaling).reshape(k.shape[0], -1, q.shape[-1])  # (KV, G * R, head_dim)
        return (grouped @ k.mT).reshape(*q.shape[:2], -1)

    def _parts(self, q: Tensor, k_parts: Tensor) -> Tensor:
        """The same split by part, k_parts (parts, KV, channels, N): (parts, H, R, N)."""
        grouped = (q * self.scaling).reshape(k_parts.shape[1], -1, q.shape[-1])
        return (self._by_part(grouped.mT).mT @ k_parts).reshape(len(k_parts), *q.shape[:2], -1)

    def _block(self, logits: Tensor, parts: Tensor, rows: Tensor) -> None:
        """Book logits (H, R, N) and their noise (parts, H, R, N) of rows (R,) against keys 0..N-1."""
        heads, _, keys = logits.shape
        distance = rows[:, None] - torch.arange(keys)  # (R, N)
        seen = distance >= 0
        if self.window is not None:
            seen &= distance < self.window
        hidden = ~seen.to(logits.device)
        parts.masked_fill_(hidden, 0.0)
        whole = parts.sum(0)
        reference = logits.masked_fill_(hidden, MASKED)
        log_p, log_q = reference.log_softmax(-1), (reference + whole).log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0).mean(0)  # (R,); rounding may dip below 0
        # heads summed: (parts + 1, R, N), the whole noise last
        square = torch.cat([parts.square_().sum(1), whole.square_().sum(0)[None]]).double().cpu()
        each = square.sum(-1).T / (seen.sum(1)[:, None] * heads)  # (R, parts + 1), mean square
        self.rows.append(torch.cat([rows[:, None].double(), each, kl.double().cpu()[:, None]], 1))
        octave = (distance.clamp(min=0) + 1).double().log2().floor().long().reshape(-1)
        self.distance_sum.index_add_(1, octave, square.flatten(1))
        self.distance_count.index_add_(0, octave, seen.reshape(-1).double() * heads)

    def result(self) -> LogitNoise:
        """Noise so far, rows in order of position."""
        table = (
            torch.cat(self.rows) if self.rows else torch.zeros(0, len(self.channels) + 3, dtype=torch.float64)
        )
        table = table[table[:, 0].argsort()]
        by_distance = (self.distance_sum / self.distance_count).sqrt()
        return LogitNoise(
            table[:, 0].long(),
            table[:, -2].sqrt(),
            table[:, 1 : 1 + self.bands].sqrt(),
            table[:, -1],
            2 ** torch.arange(len(self.distance_count)) - 1,
            by_distance[-1],
            by_distance[: self.bands],
        )
