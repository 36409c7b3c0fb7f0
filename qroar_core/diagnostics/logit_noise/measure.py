"""Logit noise by position: what rounding q and k does to the attention logits, from sampled query rows.

noise_mn = scaling * (q^_m . k^_n - q_m . k_n), nats, splits over the bands without remainder,

    noise_mn = sum_b scaling * (q^_b . (k^ - k)_b + (q^ - q)_b . k_b),

the channels without rotation being one more part. Beside it the KL of each attention row, reference to
quantized.
Rows are sampled and meet the keys they see block by block, the softmax kept as running sums (as in flash attention):
never L x L, and nothing that grows with L. q and k come after RoPE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.logit_noise.blind import BlindNoise
from qroar_core.diagnostics.logit_noise.row_sums import RowSums
from qroar_core.diagnostics.standard_error import residuals
from qroar_core.maths.meters import CPU, Meter, accumulator_device, onto
from qroar_core.maths.softmax_rule import USUAL_SOFTMAX, SoftmaxRule
from qroar_core.quantizers.exact_keys import first_exact_key

BLOCK_ELEMENTS = 1_000_000  # (band, head, row, key) products held at once
KEY_BLOCK = 1024  # keys taken at once: what is held does not grow with the context
KeysOf = Callable[[int, int], Tensor]  # first and past-the-last position -> (n_kv_heads, t, head_dim)


@dataclass(frozen=True, slots=True, eq=False)
class LayerLogitNoise:
    """Noise of one layer, heads pooled; CPU float64.

    position: (rows,) int64, ascending. rms: (rows,), nats. rms_by_band: (rows, bands). kl: mean over heads of
    KL(reference || quantized) of the attention row, nats, (rows,).
    distance: (distance bins,) int64, first distance of each octave, 2^j - 1. rms_by_distance: (distance
        bins,);
    band_rms_by_distance: (bands, distance bins); NaN in bins without samples.
    distance_residual: (distance bins, rows), of the mean square behind rms_by_distance (see standard_error.py beside).
    rest_rms, rest_rms_by_distance: the same of the channels in no band; None where there are none.
    logit_std, noise_std: (rows,) of the reference's logits and of their noise over the keys of a row, root of the mean
        variance over heads; a shift of all logits of a row is not in them.
    null: the same figures for blind noise (see blind.py): of rms, rms_by_band and rest_rms as one (rows, parts + 1),
        and by distance as one (parts + 1, distance bins), the whole noise last. null_std: of noise_std, null_kl: of kl,
        (rows,). null_chance: (parts + 1,) variance over drawn errors of the mean square over all rows.
    """

    position: Tensor
    rms: Tensor
    rms_by_band: Tensor
    kl: Tensor
    distance: Tensor
    rms_by_distance: Tensor
    distance_residual: Tensor
    band_rms_by_distance: Tensor
    rest_rms: Tensor | None
    rest_rms_by_distance: Tensor | None
    logit_std: Tensor
    noise_std: Tensor
    null: Tensor
    null_by_distance: Tensor
    null_std: Tensor
    null_kl: Tensor
    null_chance: Tensor


class LogitNoiseMeter(Meter):
    """Accumulates LayerLogitNoise of one layer.

    Args:
        band_of_channel: int64 (head_dim,), -1 in no band.
        length: L, tokens; the largest distance is L - 1.
        scaling: of the softmax.
        rule: the layer's softmax: its window says which keys count, and cap and sinks enter the KL. RMS is of the
            logits before a cap.
    """

    def __init__(self, band_of_channel: Tensor, length: int, scaling: float, rule: SoftmaxRule = USUAL_SOFTMAX) -> None:
        self.bands = int(band_of_channel.max()) + 1
        self.scaling, self.rule = scaling, rule
        parts = [*range(self.bands), -1] if bool((band_of_channel < 0).any()) else range(self.bands)
        members = [torch.nonzero(band_of_channel == b)[:, 0] for b in parts]
        # channels of each part, padded to the widest with one past the end: a channel of zeros
        self.channels = torch.nn.utils.rnn.pad_sequence(members, batch_first=True, padding_value=len(band_of_channel))
        octaves = max(length, 1).bit_length()
        # rows: the parts, then the whole noise
        self.octaves: list[Tensor] = []  # (2, rows, octaves) of each update: the whole noise squared, and its count
        self.distance_sum = torch.zeros(len(members) + 1, octaves, dtype=torch.float64)
        self.distance_count = torch.zeros(octaves, dtype=torch.float64)
        self.rows: list[Tensor] = []  # (rows, parts + 5): position, parts, whole, KL, variances of logit and noise
        self.spreads: list[Tensor] = []  # (3, heads, rows) of each update, see RowSums.spread
        self.blind = BlindNoise(len(members), len(band_of_channel), octaves, scaling, rule)

    def update(
        self,
        q: Tensor,
        rows: Tensor,
        k: Tensor,
        k_hat: Tensor | KeysOf,
        q_hat: Tensor | None = None,
        key_block: int = KEY_BLOCK,
        cache_block: int = 1,
        exact_keys: KeysOf | None = None,
    ) -> None:
        """Add sampled query rows against every key they see.

        Args:
            q: (heads, R, head_dim) reference; rows: positions, int64 (R,), on the CPU.
            k: (n_kv_heads, N, head_dim), reference keys of positions 0..N-1, N > max(rows).
            k_hat: the same quantized, or a function of (first, past the last) position that gives them, so that no
                second K of the whole length is ever held.
            key_block: keys taken at once.
            q_hat: quantized q, or None where q is not quantized.
            cache_block: tokens that the cache rounds together: quantizers.exact_keys says which a row reads exactly.
            exact_keys: gives those, as k_hat does where it is a function; None: they are the reference's.
        Raises:
            ValueError: a row sees keys that are not there.
        """
        if len(rows) == 0:
            return
        if int(rows.max()) >= k.shape[1]:
            raise ValueError(f"row {int(rows.max())} needs as many keys, got {k.shape[1]}")
        self.to_device(q.device)
        rows, order = rows.sort()
        at, order = onto(rows, accumulator_device(q.device)), onto(order, q.device)
        q = q[:, order].float()
        q_hat = q if q_hat is None else q_hat[:, order].float()
        rounds_q, parts = q_hat is not q, len(self.channels) + 1
        width = q.shape[-1] if rounds_q else 0
        seen = RowSums(parts, q.shape[0], len(rows), len(self.distance_count), at.device, width)
        if self.rule.sinks is not None:
            seen.add_sinks(self.rule.sinks)
        exact_from = first_exact_key(cache_block, rows)
        self.blind.add_rows(rows, at, q, q_hat, self.channels, k.shape[0], exact_from)
        for start in range(0, int(rows[-1]) + 1, key_block):
            stop = min(start + key_block, int(rows[-1]) + 1)
            here = k[:, start:stop].float()
            rounded = k_hat(start, stop) if callable(k_hat) else k_hat[:, start:stop]
            k_error = self._by_part((rounded.float() - here).mT)  # (parts, KV, channels, keys)
            k_parts = self._by_part(here.mT) if rounds_q else None
            keys = here.to(at.device, torch.float64) if rounds_q else None
            held_here = cache_block > 1 and bool(((exact_from < stop) & (rows >= start)).any())
            exact_error = None  # of keys that some row reads exactly; None: they have none
            if held_here and exact_keys is not None:
                exact_error = self._by_part((exact_keys(start, stop).float() - here).mT)
            self.blind.add_keys(k_error, k_parts, start, exact_error)
            size = max(1, BLOCK_ELEMENTS // (len(self.channels) * q.shape[0] * (stop - start)))
            for first in range(int(torch.searchsorted(rows, start)), len(rows), size):
                block = slice(first, first + size)
                noise = self._parts(q_hat[:, block], k_error)
                held = None
                if held_here:
                    held = onto(exact_from[block, None], here.device) <= torch.arange(start, stop, device=here.device)
                    if exact_error is None:
                        noise.masked_fill_(held, 0.0)
                    else:
                        noise = torch.where(held, self._parts(q_hat[:, block], exact_error), noise)
                if k_parts is not None:
                    noise += self._parts(q_hat[:, block] - q[:, block], k_parts)
                self._block(seen, block, self._logits(q[:, block], here), noise, at[block], start, held, keys)
        self.blind.end_rows()
        self.rows.append(seen.table(at))
        self.octaves.append(seen.by_octave)
        self.spreads.append(seen.spread())

    def _by_part(self, x: Tensor) -> Tensor:
        """Split (KV, head_dim, T) into (parts, KV, channels of the widest part, T), padded with zeros."""
        padded = torch.nn.functional.pad(x, (0, 0, 0, 1))
        picked = padded.index_select(1, self.channels.flatten())
        return picked.unflatten(1, self.channels.shape).transpose(0, 1)

    def _logits(self, q: Tensor, k: Tensor) -> Tensor:
        """scaling * q . k of q (H, R, head_dim) and k (KV, N, head_dim): (H, R, N)."""
        grouped = (q * self.scaling).reshape(k.shape[0], -1, q.shape[-1])  # (KV, G * R, head_dim)
        return (grouped @ k.mT).reshape(*q.shape[:2], -1)

    def _parts(self, q: Tensor, k_parts: Tensor) -> Tensor:
        """The same split by part, k_parts (parts, KV, channels, N): (parts, H, R, N)."""
        grouped = (q * self.scaling).reshape(k_parts.shape[1], -1, q.shape[-1])
        return (self._by_part(grouped.mT).mT @ k_parts).reshape(len(k_parts), *q.shape[:2], -1)

    def _block(
        self,
        seen: RowSums,
        block: slice,
        logits: Tensor,
        parts: Tensor,
        rows: Tensor,
        start: int,
        held: Tensor | None,
        of_query: Tensor | None,
    ) -> None:
        """Book logits (H, R, N) and their noise (parts, H, R, N) of rows (R,) against keys start .. start + N - 1.

        `of_query`: those keys (KV, N, head_dim), which a query's error meets; None: q is not quantized.
        """
        heads, _, keys = logits.shape
        distance = rows[:, None] - torch.arange(start, start + keys, device=rows.device)  # (R, N)
        visible = self.rule.visible(distance)
        logits, parts = logits.to(rows.device), parts.to(rows.device)
        parts.masked_fill_(~visible, 0.0)
        whole = parts.sum(0)
        exact, noise = logits.double(), whole.double()
        seen.add_moments(block, exact, noise, visible)
        slope = None
        if self.rule.softcap is not None:
            slope = 1 - (exact / self.rule.softcap).tanh().square()
            noise = self.rule.capped(exact + noise) - self.rule.capped(exact)
            exact = self.rule.capped(exact)
        held = None if held is None else held.to(rows.device)
        seen.add_softmax(block, exact, noise, visible, slope, held, of_query)
        # heads summed: (parts + 1, R, N), the whole noise last
        square = torch.cat([parts.square_().sum(1), whole.square_().sum(0)[None]]).double()
        seen.square[:, block] += square.sum(-1)
        seen.count[block] += visible.sum(1).double() * heads
        octave = (distance.clamp(min=0) + 1).double().log2().floor().long()
        seen.add_octaves(block, octave, square[-1], visible.double() * heads)
        octave = octave.reshape(-1)
        self.distance_sum.index_add_(1, octave, square.flatten(1))
        self.distance_count.index_add_(0, octave, visible.reshape(-1).double() * heads)

    def result(self) -> LayerLogitNoise:
        """Noise so far, rows in order of position."""
        self.to_device(CPU)
        parts = len(self.channels)
        empty = torch.zeros(0, parts + 5, dtype=torch.float64)
        table = torch.cat([empty, *(rows.to(CPU) for rows in self.rows)])
        order = table[:, 0].argsort()
        table = table[order]
        by_part, by_distance = table[:, 1 : 1 + parts].sqrt(), (self.distance_sum / self.distance_count).sqrt()
        null, null_by_distance, null_variance = self.blind.result(order)
        none = torch.zeros(2, 0, len(self.distance_count), dtype=torch.float64)
        octaves = torch.cat([none, *(one.to(CPU) for one in self.octaves)], 1)[:, order].mT  # (2, octaves, rows)
        rest = parts > self.bands
        return LayerLogitNoise(
            position=table[:, 0].long(),
            rms=table[:, 1 + parts].sqrt(),
            rms_by_band=by_part[:, : self.bands],
            kl=table[:, 2 + parts],
            distance=2 ** torch.arange(len(self.distance_count)) - 1,
            rms_by_distance=by_distance[-1],
            distance_residual=residuals(*octaves),
            band_rms_by_distance=by_distance[: self.bands],
            rest_rms=by_part[:, self.bands] if rest else None,
            rest_rms_by_distance=by_distance[self.bands] if rest else None,
            logit_std=table[:, 3 + parts].sqrt(),
            noise_std=table[:, 4 + parts].sqrt(),
            null=torch.cat([null, null.sum(1, keepdim=True)], 1).sqrt(),
            null_by_distance=torch.cat([null_by_distance, null_by_distance.sum(0, keepdim=True)]).sqrt(),
            null_std=null_variance.sqrt(),
            null_chance=self.blind.chance(),
            null_kl=self.blind.kl([spread.to(CPU) for spread in self.spreads], order),
        )
