"""What `tradeoff` returns: the trade-off of every setup that was measured, as sentences, a table and figures."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from qroar_core.errors import BadSpec
from qroar_core.figures.picture import Picture
from qroar_core.library.shown import titled
from qroar_core.specs.tradeoff import Axis, Loss
from qroar_core.tradeoffs.measured import Measured, at_length
from qroar_core.tradeoffs.report import save_report
from qroar_core.tradeoffs.setup_tradeoff import SetupTradeoff


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tradeoff:
    """Loss against memory of the K/V cache, from a sweep or a folder of runs.

    Attributes:
        setups: one a model, interpolation, length, text and seed: `key`, `points`, `steps` of the front, `choice`,
            `sentences`, `table()`, `picture()`.
        loss: `nll`, `kl` (nats a token) or `needles` (a share).
        max_loss: what a chosen format loses less than.
        length: tokens that memory is counted at; None: those that each setup was measured at.
        batch: texts that are in the cache at once.
        notes: what is not here and why.
        where: what was read.
    """

    setups: tuple[SetupTradeoff, ...]
    loss: Loss
    max_loss: float
    length: int | None
    batch: int
    notes: tuple[str, ...]
    where: str

    @classmethod
    def of(cls, measured: Measured, max_loss: float, length: int | None, batch: int) -> Tradeoff:
        """The front and the choice of every setup that was measured."""
        found = measured if length is None else at_length(measured, length)
        setups = tuple(
            SetupTradeoff.of(key, points, found.loss, max_loss, length or key.length, batch)
            for key, points in found.points.items()
        )
        return cls(setups, found.loss, max_loss, length, batch, tuple(found.notes), found.where)

    @property
    def sentences(self) -> list[str]:
        """The choice of every setup; each begins with its setup where there are several."""
        if len(self.setups) == 1:
            return self.setups[0].sentences
        return [f"{one.key.words}: {'. '.join(one.sentences)}" for one in self.setups]

    def table(self) -> pd.DataFrame:
        """One row a point: its setup, bytes a token, GB, loss with its interval, whether it is on the front."""
        if len(self.setups) == 1:
            return self.setups[0].table()
        tables = [one.table() for one in self.setups]
        for one, table in zip(self.setups, tables, strict=True):
            table.insert(0, "setup", one.key.words)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["setup"])

    def pictures(self, axis: Axis = "bytes") -> list[Picture]:
        """The figure of every setup; `axis`: `bytes` of a token, or `gb` of the whole cache."""
        return [one.picture(axis) for one in self.setups]

    def plot(self, setup: int = 0, axis: Axis = "bytes") -> go.Figure:
        """The figure of one setup, its title above it.

        Raises:
            BadSpec: there is no such setup.
        """
        if not -len(self.setups) <= setup < len(self.setups):
            raise BadSpec(f"no setup {setup}", where="plot", do=f"give 0 to {len(self.setups) - 1}")
        return titled(self.setups[setup].picture(axis))

    def summary(self) -> str:
        """Sentences, notes and the table, as text."""
        lines = [f"{one}." for one in (*self.sentences, *self.notes)]
        return "\n".join([*lines, "", self.table().to_string(index=False)])

    def save(self, folder: Path | str) -> Path:
        """Write tradeoff.csv and tradeoff.html into a new folder, or into one that holds them; returns it.

        Raises:
            BadOutput: it cannot be written, or something else lies there.
        """
        return save_report(folder, self.table(), self.setups, self.notes, self.where)

    def __repr__(self) -> str:
        said = self.sentences or ["nothing is measured yet"]
        more = f"\n... and {len(said) - 2} more" if len(said) > 2 else ""
        return f"Tradeoff: {'. '.join(said[:2])}{more}"

    __str__ = summary

    def _repr_html_(self) -> str:
        lines = "<br>".join(f"{html.escape(one)}." for one in (*self.sentences, *self.notes))
        return f"<p>{lines}</p>{self.table().to_html(index=False, escape=True)}"
