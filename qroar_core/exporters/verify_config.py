"""config.json and generation_config.json of an export, entry by entry, against those that it is written with.

What belongs there is written anew by the exporter itself, from the source and the setting that qroar.json names. Logits
on a short text do not show an end of text, a window or a number format that is another one, and a small change of an
epsilon hides in what the number format rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qroar_core.errors import QRoarError
from qroar_core.exporters import hf, quantized_copy, w4a16
from qroar_core.exporters.check import Check
from qroar_core.exporters.formats import writer_name
from qroar_core.models.checkpoint_files import has, table_in
from qroar_core.models.generation import FILE as GENERATION
from qroar_core.models.generation import generation_defaults
from qroar_core.models.loaded import LoadedModel
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

CONFIG = "config.json"
MAY_DIFFER = {  # entry -> why it is not compared
    "transformers_version": "which transformers wrote the file: nothing is computed by it",
    "quantization_config.version": "which compressed-tensors wrote the block: nothing is computed by it",
}
WRITERS = {  # module of `exporters` -> what writes its settings into a folder
    "hf": hf.write_config,
    "w4a16": w4a16.write_config,
    "quantized_copy": quantized_copy.write_config,
}
VERSION = "transformers_version"
ABSENT = object()
LONGEST = 60  # characters of a value in an answer


def checks(
    source: LoadedModel, rope: RopeSpec, scales: Scales | None, note: Mapping[str, Any], folder: Path
) -> list[Check]:
    """A check of each of the two files, the second where it is there or belongs there.

    Args:
        rope, scales: of `note`, the folder's qroar.json.
    """
    writer = writer_name(str(note.get("format", "hf")))
    if writer not in WRITERS:
        return [
            Check(_question(CONFIG), f"not compared: what the writer {writer} writes there is not known here", None)
        ]
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch)
        try:
            WRITERS[writer](source, rope, scales, note, again)
            return [
                compared(name, table_in(again / name) if has(again, name) else None, folder, _defaults(name, source))
                for name in (CONFIG, GENERATION)
                if name == CONFIG or has(again, name) or has(folder, name)
            ]
        except QRoarError as error:
            return [Check(_question(CONFIG), f"not compared: {error}"[:160], None)]


def compared(name: str, wanted: dict[str, Any] | None, folder: Path, defaults: Mapping[str, Any]) -> Check:
    """One file of `folder`, each entry that differs with both values.

    Args:
        wanted: what belongs there; None where no such file does.
        defaults: what transformers takes where an entry is not there. Another version of it writes other entries, so
            an entry that one of the two lacks is then taken to be that.
    """
    if wanted is None or not has(folder, name):
        return Check(_question(name), "an export writes none" if wanted is None else "missing", False)
    found = table_in(folder / name)
    if wanted.get(VERSION) != found.get(VERSION):
        wanted, found = ({**_only(defaults, one, other), **one} for one, other in ((wanted, found), (found, wanted)))
    mine, its = _leaves(wanted), _leaves(found)
    other = [
        f"{key} is {_word(its, key, 'not there')}, an export {_word(mine, key, 'has none', 'writes ')}"
        for key in sorted(mine.keys() | its.keys())
        if key not in MAY_DIFFER and not _same(mine.get(key, ABSENT), its.get(key, ABSENT))
    ]
    return Check(_question(name), "; ".join(other) or f"{len(its)} entries alike", not other)


def _question(name: str) -> str:
    return f"{name} against what this export writes"


def _defaults(name: str, source: LoadedModel) -> dict[str, Any]:
    return generation_defaults() if name == GENERATION else dict(type(source.model.config)().to_dict())


def _only(defaults: Mapping[str, Any], one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of entries that `other` alone has."""
    return {key: defaults[key] for key in other.keys() - one.keys() if key in defaults}


def _leaves(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Entries of tables in tables by their path; an empty table and a list are one entry."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            leaves |= _leaves(value, f"{before}{key}.")
        else:
            leaves[f"{before}{key}"] = value
    return leaves


def _same(one: Any, other: Any) -> bool:
    """Alike, and neither true where the other is 1."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other)


def _word(leaves: Mapping[str, Any], key: str, without: str, before: str = "") -> str:
    if key not in leaves:
        return without
    said = str(leaves[key])
    return before + (said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}...")
