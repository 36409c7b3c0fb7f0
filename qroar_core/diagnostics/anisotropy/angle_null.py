"""The null of anisotropy: the same errors, each beside the angle of another pair.

Every pair takes the error of another pair of its band, which turns at another frequency, in another KV head, whose
step is another, scaled so that its mean is the pair's own. For pairs differ in their error (one that is under half a
step loses all of itself) and in the angles at which they stand (a slow one holds few), and what differs by pair is not
yet the angle's. What repeats in the text repeats in the errors too, but none of them knows the angle it is booked
under.
Noise drawn anew for every token would not do: equal tokens have nearly equal keys and
errors, so fewer of the errors are independent than there are tokens, and chance reaches further than such noise shows.
A partner without any error (all of its values are levels of the grid, or zero) lends none: its pair takes errors drawn
at its own angles, of its own mean (`measure.NullMeter`).
With a single KV head it is another pair's of another layer, at the same tokens. A model of one head and one layer has
only other pairs of the same vector, whose step the pair's own angle may have set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from qroar_core.diagnostics.sample import Sample
from qroar_core.maths.meters import onto

Source = Literal["head", "layer", "vector"]  # of the other pair


@dataclass(eq=False)
class Swapped:
    """Whose error each pair takes, `draws` times; the draws do not depend on the text.

    Args:
        band_of_pair: int64 (rotary_dim // 2,).
        heads: of K. layer: of the model. seed: of the diagnosis. draws: how often.
        layers: how many the errors may come from.
    """

    band_of_pair: Tensor
    heads: int
    layer: int
    seed: int
    draws: int
    layers: int = 1
    partners: list[Tensor] = field(init=False)  # int64 (heads * pairs,), head * pairs + pair; none for a single pair

    def __post_init__(self) -> None:
        source = torch.Generator().manual_seed(self.seed * 1_000_003 + self.layer)
        several = self.draws if len(self.band_of_pair) > 1 else 0
        self.partners = [torch.cat([self._deal(head, source) for head in range(self.heads)]) for _ in range(several)]

    def _deal(self, head: int, source: torch.Generator) -> Tensor:
        """Of one head: a ring through the pairs of every band in a drawn order, each of a drawn other head.

        A pair that is alone in its band takes any other pair.
        """
        count = len(self.band_of_pair)
        partner = torch.empty(count, dtype=torch.int64)
        for band in self.band_of_pair.unique():
            mine = torch.nonzero(self.band_of_pair == band)[:, 0]
            if len(mine) > 1:
                ring = mine[torch.randperm(len(mine), generator=source)]
                partner[ring] = ring.roll(1)
            else:
                partner[mine] = (mine + torch.randint(1, count, (1,), generator=source)) % count
        away = torch.randint(1, max(self.heads, 2), (count,), generator=source)
        return (head + away) % self.heads * count + partner

    @property
    def source(self) -> Source:
        """Where the other pair is: in another head, in another layer, or in the same vector."""
        return "head" if self.heads > 1 else "layer" if self.layers > 1 else "vector"

    def spare(self, draw: int) -> int:
        """Seed of the errors that pairs take in a draw where their partner has none."""
        return (self.seed * 1_000_003 + self.layer) * 1_009 + draw

    def on(self, device: torch.device) -> list[Tensor]:
        """The partners where `device` is."""
        self.partners = [onto(partner, device) for partner in self.partners]  # free where they are there
        return self.partners

    def sample(self, tokens: int) -> Sample:
        """What a figure with this null was counted on."""
        drawn = "one draw" if self.draws == 1 else f"the mean of {self.draws} draws"
        return Sample(tokens=tokens, seed=self.seed, error=f"the null is {drawn}" if self.partners else "")
