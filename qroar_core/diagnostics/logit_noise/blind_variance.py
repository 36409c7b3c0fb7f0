"""How far chance moves what blind noise shows: the variance of a band's mean squared noise over drawn errors.

With w_m = 1 / (keys that row m sees), R sampled rows and H heads, a band's mean square is a quadratic form in errors,

    S_b = scaling^2 / (R H) sum_m w_m sum_h sum_n (q^_hm . e_n + d_hm . k_n)^2    (channels of the band alone),

e_n of variance E_k / d in each channel, one for all rows that see the key, and d_hm of variance E_q / d. A form
e^T A e of normal errors of variance v has the variance 2 v^2 |A|^2 (Frobenius), so that with unit = scaling^2 / d

    Var S_b = (unit / (R H))^2 (2 sum_g E_k^2 sum_{hm, h'm' of g} w_m w_m' n(m, m') (q^_hm . q^_h'm')^2
              + 2 sum_hm w_m^2 E_q^2 |sum_n k_n k_n^T|^2 + 4 sum_hm w_m^2 E_k E_q |q^_hm|^2 sum_n |k_n|^2),

n(m, m') the number of keys that both rows see and g the KV heads. Keys that a row reads rounded and those that it reads
exactly have an E_k each. The three sums are kept, for E_k and E_q are known at the end alone.

The same of the whole noise, all channels in the place of a band's, is kept last. There the products of q^ and the sizes
are sums over parts; |sum_n k_n k_n^T| has blocks between parts, which are not kept, and is taken for the sum of the
parts' norms, which it does not exceed. So where queries have errors the variance of the whole is an upper bound.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from qroar_core.maths.meters import onto


class BlindSpread:
    """The sums of one layer; what grows with rows or channels is held during one update only.

    Args:
        parts: how many parts the channels fall into. n_kv_heads, heads: of the layer.
        device: of the sums.
    """

    def __init__(self, parts: int, n_kv_heads: int, heads: int, device: torch.device) -> None:
        none = torch.zeros(0, dtype=torch.float64, device=device)
        self.of_keys = none.new_zeros(parts + 1, 2, n_kv_heads)  # read rounded, read exactly; the whole last
        self.of_queries = none.new_zeros(parts + 1, heads)
        self.of_both = none.new_zeros(parts + 1, heads)
        self.q_hat = self.products = none  # (stretches, parts, KV, channels, channels), sum of k k^T of each
        # between stretches of keys; positions stay on the CPU, for nothing may wait for the device
        self.edges = torch.zeros(0, dtype=torch.long)

    def begin(self, at: Tensor, exact_from: Tensor, window: int | None, q_hat: Tensor, kv: int) -> None:
        """Take in sampled rows: positions, first exact key (R,) on the CPU; q^ by part (parts, heads, R, channels)."""
        first = torch.zeros_like(at) if window is None else (at + 1 - window).clamp(min=0)
        self.at, self.first, self.q_hat = at, first, q_hat
        self.edges = torch.cat([first, at + 1]).unique()
        self.products = self.products[:0]
        weight = 1 / (at + 1 - first).double()
        exact = torch.maximum(exact_from, first).clamp(max=at + 1)
        grouped = q_hat.unflatten(1, (kv, -1)).flatten(2, 3)  # (parts, KV, heads of it * R, channels)
        many = grouped.shape[2] // len(at)
        for i, (low, high) in enumerate(((first, exact), (exact, at + 1))):
            both = torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)
            shared = both.clamp(min=0).double() * weight[:, None] * weight
            shared = onto(shared, q_hat.device).repeat(many, many)
            for group in range(kv):
                whole = torch.zeros_like(shared)
                for part, one in enumerate(grouped[:, group]):  # one by one: of all rows by all rows
                    products = one @ one.T
                    whole += products
                    self.of_keys[part, i, group] += (products.square_() * shared).sum()
                self.of_keys[-1, i, group] += (whole.square_() * shared).sum()

    def add_keys(self, keys: Tensor, start: int) -> None:
        """Take in a block of keys (parts, KV, channels, N) from position `start`, where queries have errors."""
        if not len(self.products):
            parts, kv, channels, _ = keys.shape
            self.products = keys.new_zeros(len(self.edges) + 1, parts, kv, channels, channels)
        edges = [0, *self.edges.tolist(), start + keys.shape[-1]]
        for stretch, (first, stop) in enumerate(itertools.pairwise(edges)):
            a, b = max(first - start, 0), min(stop - start, keys.shape[-1])
            if a < b:
                here = keys[..., a:b]
                self.products[stretch] += here @ here.mT

    def end(self) -> None:
        """All keys of the rows have come."""
        if len(self.products):
            before = self.products.cumsum_(0)  # up to and with each stretch
            low = torch.bucketize(self.first, self.edges, right=True) - 1  # the stretch before the first key
            high = torch.bucketize(self.at, self.edges, right=True)
            weight = (1 / (self.at + 1 - self.first).double().square()).tolist()
            group = self.q_hat.shape[1] // before.shape[2]
            for row, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):  # one by one: they are large
                seen = before[b] - before[a] if a >= 0 else before[b]  # (parts, KV, channels, channels)
                norm, size = seen.square().sum((-1, -2)), seen.diagonal(dim1=-2, dim2=-1).sum(-1)
                norm = torch.cat([norm, norm.sqrt().sum(0, keepdim=True).square()])
                size = torch.cat([size, size.sum(0, keepdim=True)])
                self.of_queries += norm.repeat_interleave(group, -1) * weight[row]
                asked = self.q_hat[:, :, row].square().sum(-1)
                asked = torch.cat([asked, asked.sum(0, keepdim=True)])
                self.of_both += asked * size.repeat_interleave(group, -1) * weight[row]
        self.products, self.q_hat = self.products[:0], self.q_hat[:0]

    def variance(self, unit: float, rows: int, k_error: Tensor, q_error: Tensor) -> Tensor:
        """Of every part's mean square and of the whole's, (parts + 1,).

        Args:
            unit: scaling^2 / d. rows: R, of all updates.
            k_error: E_k, (2, KV) as `of_keys`. q_error: E_q, (heads,).
        """
        heads = len(q_error)
        rounded = k_error[0].repeat_interleave(heads // k_error.shape[1])
        total = 2 * (self.of_keys * k_error.square()).sum((1, 2))
        total += (2 * self.of_queries * q_error.square() + 4 * self.of_both * rounded * q_error).sum(-1)
        return (unit / (rows * heads)) ** 2 * total
