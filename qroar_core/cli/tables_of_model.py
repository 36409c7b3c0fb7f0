"""What `info` prints: one row a fact, no wider than the terminal, and what layers share said once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qroar_core.cli.tables import _print, line

if TYPE_CHECKING:
    from qroar_core.models.loaded import LoadedModel

NARROWEST = 40  # columns of a list of names and values, however narrow the terminal is
NUMBERS_OF_LAYERS = ("without_rope", "decoder_layers")  # of a geometry; its other tuples have an entry a layer


def model(loaded: LoadedModel, as_json: bool) -> None:
    """The model's sizes."""
    from dataclasses import asdict

    from qroar_core.models.own_dtype import own_words, word
    from qroar_core.models.own_rope import native_from, own_rope

    facts = {
        "name": loaded.name,
        "fingerprint": loaded.fingerprint,
        "checksum": loaded.checksum,
        **asdict(loaded.geometry),
        "own_rope": own_rope(loaded),
        "max_position_embeddings": loaded.model.config.max_position_embeddings,
        "original_context_from": native_from(loaded),
        "device": str(loaded.device),
        "dtype": word(loaded.dtype),
        "checkpoint_dtype": own_words(loaded),
        "note": loaded.note,
    }
    _print(facts) if as_json else _facts(loaded.name, facts)


def _facts(title: str, facts: dict[str, Any]) -> None:
    """Names and values in two columns, long values in several lines; what is empty is left out."""
    line(title)
    table = Table("", "value", box=SIMPLE)
    table.columns[0].no_wrap, table.columns[1].overflow = True, "fold"
    for name, value in facts.items():
        if value not in ((), ""):
            table.add_row(name, Text(_layers_in_words(name, value) if isinstance(value, tuple) else str(value)))
    Console(width=max(NARROWEST, Console().width)).print(table, crop=False)


def _layers_in_words(name: str, values: tuple[Any, ...]) -> str:
    """What each layer has, said once: `512: layers 0-4, 6-10`, a line a value; numbers of layers as `3, 7, 11-13`."""
    if name in NUMBERS_OF_LAYERS:
        return _ranges(values)
    at: dict[str, list[int]] = {}
    for layer, value in enumerate(values):
        at.setdefault("none" if value is None else str(value), []).append(layer)
    return "\n".join(f"{value}: layer{'s' * (len(layers) > 1)} {_ranges(layers)}" for value, layers in at.items())


def _ranges(numbers: Sequence[int]) -> str:
    """`0-4, 6, 8` for ascending whole numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
