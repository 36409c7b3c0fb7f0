"""Scales on a small model of any family: drawn, put on, and what q, k and the logits are then."""

from __future__ import annotations

import torch

from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.transforms.scales import Scales

EXACT = {"rtol": 0.0, "atol": 1e-9}


def bands_of(case):
    """Two bands of unequal width, or one pair each where there are but two."""
    pairs = case.rotary_dim // 2
    return ((0, 0), (1, pairs - 1))


def random_g(case, seed=0, finest=None):
    """log-normal g (layers, kv_heads, 2), shared as the family's finest granularity asks."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.exp2(2 * torch.randn(case.layers, case.kv_heads, 2, generator=generator, dtype=torch.float64))
    return g if (finest or case.finest) == "kv_head" else g[:, :1].expand_as(g).contiguous()


def scales_of(case, mode="symmetric", seed=0):
    return Scales(mode, case.finest, bands_of(case), random_g(case, seed))


class Taps:
    """q and k of every layer, (heads, T, head_dim), joined over chunks."""

    def __init__(self):
        self.q, self.k = {}, {}

    def on_attention(self, tap):
        for store, x in ((self.q, tap.q), (self.k, tap.k)):
            store[tap.layer] = torch.cat([store[tap.layer], x], 1) if tap.layer in store else x.clone()

    def on_layer(self, layer, row, start, hidden):
        pass


def streamed(loaded, tokens, condition=None, chunk=17, taps=None):
    """Vocabulary logits of a stream, (1, T, vocabulary)."""
    with open_stream(loaded, condition or Condition(), tokens.shape[1], chunk=chunk) as stream:
        pieces = [piece.hidden for piece in stream.run(tokens, (taps,) if taps else ())]
    return logits_of(loaded, torch.cat(pieces, 1))


def pair_of(case, channel):
    """Pair of a channel, spelled as the definition; None without rotation."""
    if channel >= case.rotary_dim:
        return None
    return channel % (case.rotary_dim // 2) if case.pairing == "half" else channel // 2
