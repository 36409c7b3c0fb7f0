"""The trade-off under one setup: its points, the front, the choice in words, the table and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qroar_core.figures.picture import Picture
from qroar_core.specs.tradeoff import Axis, Loss
from qroar_core.tradeoffs.choice import Choice, choose, sentences
from qroar_core.tradeoffs.figure import draw
from qroar_core.tradeoffs.front import Step, steps
from qroar_core.tradeoffs.point import Point, SetupKey
from qroar_core.tradeoffs.table import table_of


@dataclass(frozen=True, slots=True, eq=False)
class SetupTradeoff:
    """The trade-off under one setup; losses of different setups cannot be compared."""

    key: SetupKey
    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    choice: Choice
    loss: Loss
    length: int
    batch: int

    @classmethod
    def of(
        cls, key: SetupKey, points: Sequence[Point], loss: Loss, max_loss: float, length: int, batch: int
    ) -> SetupTradeoff:
        """The front and the choice of these points."""
        return cls(key, tuple(points), tuple(steps(points)), choose(points, max_loss), loss, length, batch)

    @property
    def full(self) -> float | None:
        """Bytes a token of the unquantized cache; None where it was not measured."""
        return next((one.bytes_per_token for one in self.points if not one.quantized), None)

    @property
    def sentences(self) -> list[str]:
        """The choice in words, and at which length its loss was measured."""
        served = sum(one.served for one in self.points)
        said = sentences(self.choice, self.loss, self.length, self.batch, served, self.full)
        if self.length != self.key.length:
            said.append(
                f"Losses were measured at {self.key.length:,} tokens, not at {self.length:,}: measure there what you "
                "will serve"
            )
        return said

    def table(self) -> pd.DataFrame:
        """One row a point, cheapest first."""
        return table_of(self.points, self.steps, self.choice, self.length, self.batch)

    def picture(self, axis: Axis = "bytes") -> Picture:
        """Loss against memory, with the front."""
        return draw(self.points, self.steps, self.choice, self.loss, self.key.words, self.length, self.batch, axis)
