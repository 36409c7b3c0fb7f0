"""The number format of every tensor in an export's files, against the one that qroar.json says it was written in.

A file of another type holds other numbers than were asked for, though each may be right within what that type rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qroar_core.errors import QRoarError
from qroar_core.exporters import gguf_write
from qroar_core.exporters.check import Check
from qroar_core.exporters.formats import written_by
from qroar_core.exporters.verify_config import LONGEST
from qroar_core.exporters.w4a16 import linear_layers
from qroar_core.models.formats.folder_tensors import headers
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.quantized_folder import SAFETENSORS_DTYPES, SAFETENSORS_FLOATS
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import noted_dtype
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

QUESTION = "types of the tensors against qroar.json"
KEYS = "keys against what this export writes"
MAY_DIFFER = {"general.name": "how the source was called when it was exported: nothing is computed by it"}
CACHE_SCALES = (".k_scale", ".v_scale")  # float32, whatever the weights are
PACKED = ".weight_packed"


def in_folder(source: LoadedModel, note: Mapping[str, Any], folder: Path) -> Check:
    """One check of a folder of safetensors.

    Args:
        note: its qroar.json.
    """
    try:
        there = {name: one.dtype for name, one in headers(folder).items()}
        if str(note.get("format", "hf")) in written_by("quantized_copy") and source.template is not None:
            wanted = {name: one.dtype for name, one in headers(source.template).items()}
            return _answer({name: (there.get(name), wanted.get(name)) for name in there.keys() | wanted.keys()})
        dtype, _ = noted_dtype(str(note.get("dtype")))
        if dtype is None:
            return Check(QUESTION, "not compared: it does not say the number format of the weights", None)
        packed = {name for name in there if name.endswith(PACKED)}
        group = note["weights"]["group_size"] if note.get("weights") else 0
        belong = {f"{name}{PACKED}" for name in linear_layers(source, group)} if group else set()
        kind = next(name for name in SAFETENSORS_FLOATS if SAFETENSORS_DTYPES[name] == dtype)
        plain = {name: (its, kind) for name, its in there.items() if its in SAFETENSORS_FLOATS and name not in packed}
        scales = {name: (its, "F32") for name, (its, _) in plain.items() if name.endswith(CACHE_SCALES)}
        return _answer(
            plain | scales | {name: (there.get(name), "I32" if name in belong else None) for name in packed | belong}
        )
    except QRoarError as error:
        return Check(QUESTION, str(error)[:160], False)


def in_gguf(source: LoadedModel, rope: RopeSpec, scales: Scales | None, path: Path, format: str) -> list[Check]:
    """Two checks of a GGUF file that was written anew: its tensors, and the keys before them."""
    keys, wanted = gguf_write.described(source, rope, scales, format)
    header = read_header(path)
    kinds = {name: kind.name for name, kind in wanted.items()}
    there = {name: info.kind.name for name, info in header.tensors.items()}
    types = _answer({name: (there.get(name), kinds.get(name)) for name in kinds.keys() | there.keys()})
    found = {key: one.raw for key, one in header.entries.items()}
    compared = (keys.keys() | found.keys()) - MAY_DIFFER.keys()
    other = sorted(key for key in compared if keys.get(key) != found.get(key))
    said = {key: header.entries[key].value for key in other if key in header.entries}
    wrong = "; ".join(f"{key} is {str(said.get(key, 'not there'))[:LONGEST]}, and not the export's" for key in other)
    return [types, Check(KEYS, wrong or f"{len(compared)} byte for byte", not other)]


def _answer(pairs: Mapping[str, tuple[str | None, str | None]]) -> Check:
    """Of each tensor the type that it has and the one that it was written in; None: it is not there."""
    other = sorted(name for name, (its, mine) in pairs.items() if its != mine)
    if not other:
        kinds = sorted({its for its, _ in pairs.values() if its is not None})
        return Check(QUESTION, f"{len(pairs)} tensors of {', '.join(kinds)}", True)
    name = other[0]
    its, mine = (one or "not there" for one in pairs[name])
    return Check(QUESTION, f"{len(other)} of {len(pairs)} are of another: {name} is {its}, {mine} was written", False)
