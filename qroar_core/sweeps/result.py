"""A row of a sweep's table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from qroar_core.sweeps.cell import Cell

DONE, FAILED, NOT_RUN = "done", "failed", "not run"
NOT_KEPT = "not kept: a run applies no scales"


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One cell with what was measured; NLL, loss and KL in nats per token. None: not measured.

    `loss` is `nll` minus `nll_reference`, with its 95 % interval paired over windows. That of `kl` is over the same
    windows; cells that an older version measured may have none. `bytes_per_token`: of K and V
    over all layers and KV heads, at 16 bits where the cache is not quantized, kept layers among them. `kept`:
    whether a run applies the scales found, whose `nll` this is; where it does not, what it loses is the row of
    `none`. `seconds`: what this cell took beyond what it shares with cells before it. `why`: the one line of a cell
    that failed. `run`: its folder below the root of cells.
    """

    model: str
    rope: str
    factor: float
    rope_options: str
    length: int | None
    quantizer: str
    remedy: str
    text: str
    seed: int
    windows: int | None = None
    nll: float | None = None
    nll_reference: float | None = None
    loss: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    kl: float | None = None
    kl_low: float | None = None
    kl_high: float | None = None
    bytes_per_token: float | None = None
    kept: str = ""
    seconds: float | None = None
    status: Literal["done", "failed", "not run"] = "not run"
    why: str = ""
    run: str = ""

    @classmethod
    def of(cls, cell: Cell, **measured: object) -> SweepRow:
        """The settings of a cell, and what was measured."""
        settings = {
            "model": cell.model,
            "rope": cell.rope["method"],
            "factor": float(cell.rope.get("factor", 1.0)),
            "rope_options": cell.rope_words,
            "length": cell.length,
            "quantizer": cell.quantizer_words,
            "remedy": cell.remedy,
            "text": cell.text,
            "seed": cell.seed,
            "windows": cell.windows,
        }
        return cls(**(settings | measured))


COLUMNS = tuple(field.name for field in fields(SweepRow))
