"""Errors that do not see the angle of the pair they fall on: the null of what is said about quantized pairs.

The draws depend on the seed, the layer and the position alone, so no chunk and no device changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.diagnostics.sample import Sample
from qroar_core.maths.meters import onto
from qroar_core.maths.rope import Pairing, join_pairs, split_pairs

PERIOD = 509  # tokens after which the draws repeat, a prime: pairs of equal noise then meet at other angles
LAYER_SHIFT = 101  # tokens by which the layers' draws are apart


@dataclass(eq=False)
class AngleBlind:
    """Uniform numbers for every pair of every head, `draws` times.

    Args:
        heads, pairs: of q or K.
        seed: of the diagnosis.
        draws: how often.
    """

    heads: int
    pairs: int
    seed: int
    draws: int
    tables: list[Tensor] = field(init=False, repr=False)  # (heads, PERIOD, pairs, 2) in 0..1, one a draw

    def __post_init__(self) -> None:
        source = torch.Generator().manual_seed(self.seed)
        shape = (self.heads, PERIOD, self.pairs, 2)
        self.tables = [torch.rand(shape, generator=source) for _ in range(self.draws)]

    def uniform(self, draw: int, layer: int, start: int, tokens: int, device: torch.device) -> Tensor:
        """Of the tokens from position `start`: (heads, tokens, pairs, 2) in 0..1."""
        self.tables[draw] = onto(self.tables[draw], device)  # free where it is there
        at = (torch.arange(start, start + tokens, device=device) + LAYER_SHIFT * layer) % PERIOD
        return self.tables[draw][:, at]

    def sample(self, tokens: int) -> Sample:
        """What a figure with this null was counted on."""
        drawn = "one draw" if self.draws == 1 else f"the mean of {self.draws} draws"
        return Sample(tokens=tokens, seed=self.seed, error=f"the null is {drawn}")

    def turned(self, draw: int, layer: int, start: int, x: Tensor, quantized: Tensor, pairing: Pairing) -> Tensor:
        """x with errors as large as those of `quantized`, each pair's turned to a random angle; float32.

        Channels that are in no pair keep the size of their error and take a random sign.

        Args:
            x, quantized: (heads, tokens, head_dim) from position `start`.
        """
        x = x.detach().float()
        error = quantized.detach().float() - x
        a, b = split_pairs(error, 2 * self.pairs, pairing)
        size = torch.hypot(a, b)
        u = self.uniform(draw, layer, start, x.shape[1], x.device)
        angle = u[..., 0] * (2 * torch.pi)
        rest = error[..., 2 * self.pairs :]
        if rest.shape[-1]:
            spare = u[..., 1].repeat(1, 1, -(-rest.shape[-1] // self.pairs))[..., : rest.shape[-1]]
            rest = torch.where(spare < 0.5, rest, -rest)
        return x + join_pairs(size * angle.cos(), size * angle.sin(), rest, pairing)
