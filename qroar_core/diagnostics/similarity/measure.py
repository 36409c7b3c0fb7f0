"""Hidden-state similarity by position: cosine and SQNR of a layer's output, reference against quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.meters import home
from qroar_core.maths.placing import gathered
from qroar_core.maths.positions import PositionBins

# 20 log10(2^24): fp32 cannot show a smaller difference, so a token without any counts as this many dB
EXACT_DB = 20 * math.log10(2.0**24)
FIELDS = ("cosine", "decibels", "energy", "error", "tokens")


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """By layer and position bin; CPU float64, (layers, bins), NaN in empty bins.

    cosine: mean over tokens of <x, y> / (|x| |y|). sqnr_db: mean over tokens of 20 log10(|x| / |x - y|), dB,
    where a token without error counts EXACT_DB. pooled_sqnr_db: 10 log10(sum |x|^2 / sum |x - y|^2), ruled by
    the loudest tokens (attention sinks); inf without error.
    """

    cosine: Tensor
    sqnr_db: Tensor
    pooled_sqnr_db: Tensor


class SimilarityMeter:
    """Streams Similarity of all layers: running sums only, each layer's where its outputs are."""

    def __init__(self, n_layers: int, bins: PositionBins) -> None:
        self.bins = bins
        self.sums = [torch.zeros(len(FIELDS), bins.count, dtype=torch.float64) for _ in range(n_layers)]

    def update(self, layer: int, start: int, reference: Tensor, quantized: Tensor) -> None:
        """Add a layer's outputs for the same tokens, both (tokens, hidden), from position `start`.

        A zero vector has cosine 1 with another zero and 0 with anything else.
        """
        sums = self.sums[layer] = self.sums[layer].to(home(reference.device))
        x, y = reference.detach().float(), quantized.detach().float()
        dot = (x * y).sum(-1).to(sums)  # (tokens,)
        energy, other, error = (t.square().sum(-1).to(sums) for t in (x, y, x - y))
        product = (energy * other).sqrt()
        cosine = torch.where(product > 0, dot / product, (energy == other).double())
        decibels = 10 * (energy / error).log10()
        decibels = decibels.clamp(max=EXACT_DB).masked_fill(error == 0, EXACT_DB)
        fields = torch.stack([cosine, decibels, energy, error, torch.ones_like(error)])
        for p, cut in self.bins.segments(start, len(x)):
            sums[:, p] += fields[:, cut].sum(1)

    def result(self) -> Similarity:
        """Similarities so far."""
        s = dict(zip(FIELDS, gathered(self.sums).transpose(0, 1), strict=True))
        pooled = 10 * (s["energy"] / s["error"]).log10()
        return Similarity(s["cosine"] / s["tokens"], s["decibels"] / s["tokens"], pooled)
