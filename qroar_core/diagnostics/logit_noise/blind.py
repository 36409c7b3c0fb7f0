"""The null of the logit noise: errors of the same size that know nothing of angle, band or position.

What would the figures show if every error had the mean energy of its layer and head and a random direction, drawn anew
for each key and each query? Expected over the direction, and with nothing drawn,

    E noise_mn^2 = scaling^2 / d * (|q^_m|^2 E_k + E_q |k_n|^2),

where d is head_dim, E_k the mean of |k^_n - k_n|^2 over the (sampled query, key it sees) cells that the figures count,
by KV head, cells that are read rounded and cells that the cache still holds exactly each with their own; and E_q the
mean of |q^_m - q_m|^2 over the sampled rows, by query head. A band's part has its own channels' |q^_m|^2 and |k_n|^2 in
place of the whole ones, so that here the parts' squares do add up.

A key's error is its own, but a query has one for the whole row: what all keys have in common of q^ - q shifts the row,
and no softmax sees a shift. So the variance of a row's noise over its n keys is expected to be

    scaling^2 / d * ((1 - 1/n) |q^_m|^2 E_k + E_q (mean |k|^2 - |mean k|^2)),

and its KL, to second order in the noise, half of the same with the row's weights p in place of 1/n:

    scaling^2 / 2d * (|q^_m|^2 E_k sum_n p_n (1 - p_n) + E_q (sum_n p_n |k_n|^2 - |sum_n p_n k_n|^2)).
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.diagnostics.logit_noise.blind_variance import BlindSpread
from qroar_core.maths.meters import CPU, onto
from qroar_core.maths.softmax_rule import SoftmaxRule


def keys_by_octave(rows: Tensor, octaves: int, window: int | None) -> Tensor:
    """How many keys each row sees from distance 2^j - 1 on, up to the next octave; float64 (rows, octaves).

    Args:
        rows: positions. Of the newest n keys of a row alone: n - 1 in place of its position.
    """
    first = 2 ** torch.arange(octaves, device=rows.device) - 1
    seen = rows + 1 if window is None else (rows + 1).clamp(max=window)
    return (torch.minimum(seen[:, None], 2 * first + 1) - first).clamp(min=0).double()


class BlindNoise:
    """Sums that the null of one layer needs; none grows with the context.

    Args:
        parts: how many parts the channels fall into. head_dim: d. octaves: of distances.
    """

    def __init__(self, parts: int, head_dim: int, octaves: int, scaling: float, rule: SoftmaxRule) -> None:
        self.parts, self.head_dim, self.octaves, self.rule = parts, head_dim, octaves, rule
        self.unit = scaling**2 / head_dim
        self.k_error = torch.zeros(0, dtype=torch.float64)  # (2, KV) sum over cells: read rounded, read exactly
        self.q_error = torch.zeros(0, dtype=torch.float64)  # (heads,) sum over rows
        self.cells = torch.zeros(2, dtype=torch.float64)
        self.far = torch.zeros(0, dtype=torch.float64)  # (parts, KV, octaves) sum of |k|^2 over cells
        # of each update: positions (R,), |q^|^2 (parts, heads, R), sum of |k|^2 over the keys seen (parts, KV, R), the
        # first key that is read exactly (R,), and the sum of those keys (parts, KV, channels, R)
        self.seen: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        self.spread: BlindSpread | None = None

    def add_rows(
        self, rows: Tensor, at: Tensor, q: Tensor, q_hat: Tensor, channels: Tensor, n_kv_heads: int, exact_from: Tensor
    ) -> None:
        """Take in sampled rows (R,); q and q^ (heads, R, head_dim), channels (parts, widest part).

        Args:
            rows, at: positions, on the CPU and where the sums are.
            exact_from: the first key that each row reads exactly, (R,), on the CPU.
        """
        square = torch.nn.functional.pad(q_hat, (0, 1)).square()
        by_part = square[..., channels].sum(-1).movedim(-1, 0).to(at.device, torch.float64)  # (parts, heads, R)
        keys = torch.zeros(self.parts, n_kv_heads, len(at), dtype=torch.float64, device=at.device)
        whole = torch.zeros(*keys.shape[:2], channels.shape[1], len(at), dtype=torch.float64, device=at.device)
        if not self.seen:
            self.q_error = torch.zeros(q.shape[0], dtype=torch.float64, device=at.device)
            self.k_error = torch.zeros(2, n_kv_heads, dtype=torch.float64, device=at.device)
            self.far = torch.zeros(self.parts, n_kv_heads, self.octaves, dtype=torch.float64, device=at.device)
            self.cells = onto(self.cells, at.device)
        if self.spread is None:
            self.spread = BlindSpread(self.parts, n_kv_heads, q.shape[0], at.device)
        parted = torch.nn.functional.pad(q_hat, (0, 1))[..., channels].movedim(-2, 0)  # (parts, heads, R, channels)
        self.spread.begin(rows, exact_from, self.rule.window, parted.to(at.device, torch.float64), n_kv_heads)
        self.q_error += (q_hat - q).square().sum((1, 2)).to(at.device, torch.float64)
        self.seen.append((at, by_part, keys, onto(exact_from, at.device), whole))

    def add_keys(self, k_error: Tensor, k_parts: Tensor | None, start: int, exact_error: Tensor | None = None) -> None:
        """Take in a block of keys as the last rows see them.

        Args:
            k_error: (parts, KV, channels, keys). k_parts: the keys themselves, None where q is not quantized.
            start: position of the first.
            exact_error: as k_error, of keys that are read exactly; None: they have none.
        """
        at, _, keys, exact_from, whole = self.seen[-1]
        position = torch.arange(start, start + k_error.shape[-1], device=at.device)
        distance = at[:, None] - position  # (R, N)
        visible = self.rule.visible(distance).double()
        held = visible * (exact_from[:, None] <= position)
        for i, (error, counted) in enumerate(((k_error, visible - held), (exact_error, held))):
            self.cells[i] += counted.sum()
            if error is not None:
                self.k_error[i] += error.square().sum((0, 2)).to(at.device, torch.float64) @ counted.sum(0)
        if k_parts is None:
            return
        exact = k_parts.to(at.device, torch.float64)
        assert self.spread is not None
        self.spread.add_keys(exact, start)
        size = exact.square().sum(2)  # (parts, KV, N)
        keys += size @ visible.T
        whole += exact @ visible.T
        octave = (distance.clamp(min=0) + 1).double().log2().floor().long()
        by_octave = torch.zeros(visible.shape[1], self.octaves, dtype=torch.float64, device=at.device)
        by_octave.scatter_add_(1, octave.T, visible.T)
        self.far += size @ by_octave

    def end_rows(self) -> None:
        """All keys that the last rows see have come."""
        assert self.spread is not None
        self.spread.end()

    def chance(self) -> Tensor:
        """Variance over drawn errors of every part's mean square over rows, heads and keys, (parts + 1,); CPU float64.

        The whole's is last.
        """
        if self.spread is None:
            return torch.full((self.parts + 1,), torch.nan, dtype=torch.float64)
        rows = sum(len(one[0]) for one in self.seen)
        k_error = self.k_error / self.cells.clamp(min=1)[:, None]
        return self.spread.variance(self.unit, rows, k_error, self.q_error / rows).to(CPU)

    def result(self, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Expected squares, mean over heads and keys, CPU float64.

        Returns:
            (rows, parts) in `order`; (parts, octaves); and the variance of the whole noise over a row's keys, (rows,).
        """
        if not self.seen:
            none = torch.zeros(0, self.parts, dtype=torch.float64)
            return none, torch.full((self.parts, self.octaves), torch.nan, dtype=torch.float64), none[:, 0]
        at, exact_from, queries, by_row, by_mean, k_error, q_error, count = self._sums()
        heads, kv = queries.shape[1], self.far.shape[1]
        held = keys_by_octave(at - exact_from, self.octaves, self.rule.window)
        share = held.sum(1) / count.sum(1)  # of a row's keys that it reads exactly
        k_rows = k_error[0] * (1 - share) + k_error[1] * share  # (heads, rows)
        of_keys, of_queries = queries * k_rows, by_row * q_error[:, None]  # (parts, heads, rows)
        rows = self.unit * (of_keys + of_queries).mean(1)
        n = count.sum(1)
        alone = of_keys.sum(0) * (1 - 1 / n)  # errors independent from key to key
        together = (by_row.sum(0) - by_mean).clamp(min=0) * q_error[:, None] * (n > 1)  # one error for all of a row
        far = self.far.to(CPU).repeat_interleave(heads // kv, 1)  # (parts, heads, octaves)
        k_far = (queries @ (count - held)) * k_error[0] + (queries @ held) * k_error[1]  # (parts, heads, octaves)
        total = k_far + far * q_error[:, None]
        variance = self.unit * (alone + together).mean(0)
        return rows.T[order], self.unit * total.mean(1) / count.sum(0), variance[order]

    def kl(self, spreads: list[Tensor], order: Tensor) -> Tensor:
        """Expected KL of the rows in `order`, mean over heads; RowSums.spread of each update, on the CPU."""
        if not self.seen:
            return torch.zeros(0, dtype=torch.float64)
        _, _, queries, _, _, k_error, q_error, _ = self._sums()
        of_keys, of_queries = torch.cat(spreads, -1).split([2, 1])  # (2, heads, rows), (1, heads, rows)
        variance = (of_keys * k_error * queries.sum(0)).sum(0) + of_queries[0] * q_error[:, None]
        return self.unit * variance.mean(0)[order] / 2

    def _sums(self) -> tuple[Tensor, ...]:
        """Positions and first exact keys (rows,), |q^|^2 and mean |k|^2 (parts, heads, rows), |mean k|^2 (heads, rows),
        mean errors of keys (2, heads, 1) and of queries (heads,), keys seen by octave (rows, octaves)."""
        at, queries, keys, exact_from, whole = (torch.cat([s[i].to(CPU) for s in self.seen], -1) for i in range(5))
        heads, kv = queries.shape[1], keys.shape[1]
        k_error = (self.k_error / self.cells.clamp(min=1)[:, None]).to(CPU).repeat_interleave(heads // kv, 1)[..., None]
        q_error = self.q_error.to(CPU) / len(at)
        count = keys_by_octave(at, self.octaves, self.rule.window)  # (rows, octaves)
        by_row = (keys / count.sum(1)).repeat_interleave(heads // kv, 1)  # mean |k|^2
        by_mean = (whole / count.sum(1)).square().sum((0, 2)).repeat_interleave(heads // kv, 0)  # (heads, rows)
        return at, exact_from, queries, by_row, by_mean, k_error, q_error, count
