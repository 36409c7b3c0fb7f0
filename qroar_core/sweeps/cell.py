"""A cell of a sweep: one model under one setup with one remedy, as plain data that any process can be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qroar_core.interpolations.rope_file import rope_of_json
from qroar_core.setup import Setup, quantization

AXES = {  # key of a sweep's file -> what one of its entries is, in a cell and in an exclusion
    "models": "model",
    "ropes": "rope",
    "lengths": "length",
    "quantizers": "quantizer",
    "remedies": "remedy",
    "texts": "text",
    "seeds": "seed",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a sweep's table, before it is measured.

    Args:
        model: what to load.
        rope: fields of `qroar.Rope`; `factor` is one number.
        length: tokens; None: what the interpolation promises, as `Setup` has it.
        quantizer: arguments of `qroar.quantization`.
        remedy: a word of `sweeps.remedy_words`.
        text: an embedded collection or a text file.
        seed: of everything that is drawn.
        windows: of text per stage; None: as many as a command takes where nobody says.
    """

    model: str
    rope: Mapping[str, Any]
    length: int | None
    quantizer: Mapping[str, Any]
    remedy: str
    text: str
    seed: int
    windows: int | None = None

    @property
    def setup(self) -> Setup:
        """The setup, as the library takes it.

        Raises:
            BadSpec: values that it cannot take.
        """
        rope, quant = rope_of_json(self.rope), quantization(**self.quantizer)
        return Setup(rope, quant, length=self.length, text=self.text, seed=self.seed)

    @property
    def quantizer_words(self) -> str:
        """`k=int4`, `kv=int4 kv_scale=block`."""
        return " ".join(f"{name}={value}" for name, value in self.quantizer.items())

    @property
    def rope_words(self) -> str:
        """What the interpolation has beside method and factor, `beta_fast=24`; mostly nothing."""
        rest = {name: value for name, value in self.rope.items() if name not in ("method", "factor")}
        return " ".join(f"{name}={value}" for name, value in rest.items())

    @property
    def words(self) -> str:
        """The cell in one line, for progress."""
        rope = f"{self.rope['method']} ×{self.rope.get('factor', 1):g}"
        return f"{self.model}, {rope}, {self.quantizer_words}, {self.remedy}, {self.text}, seed {self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, the inverse of `Cell(**data)`."""
        return asdict(self)


def in_groups(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Cells that share a reference (model, interpolation, length, text, seed) together, those of one model in a row.

    Within a group the cells of one quantizer stand together, which share a diagnosis. A group is what one worker gets.
    """
    models: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        shared = repr((dict(cell.rope), cell.length, cell.text, cell.seed))
        models.setdefault(cell.model, {}).setdefault(shared, []).append(cell)
    for groups in models.values():
        for group in groups.values():
            order = list(dict.fromkeys(cell.quantizer_words for cell in group))
            yield sorted(group, key=lambda cell: order.index(cell.quantizer_words))
