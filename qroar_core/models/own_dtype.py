"""Which number format a checkpoint is stored in, and which one an export of it is written in.

On a CPU everything is loaded as float32. Numbers that came from bfloat16 go back to it without loss, so an export
keeps the checkpoint's own format unless another one was asked for, and says what it writes.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch

from qroar_core.models.checkpoint_files import has, table_in
from qroar_core.models.loaded import LoadedModel

STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def own_dtype(loaded: LoadedModel) -> torch.dtype | None:
    """The widest format of the checkpoint's files and of its config.json; None where its files hold codes, or none."""
    folder = loaded.template
    if folder is None:
        return None
    config = table_in(folder / "config.json") if has(folder, "config.json") else {}
    stored = {STORED[name] for path in sorted(folder.glob("*.safetensors")) for name in _formats(path)}
    if not stored or config.get("quantization_config"):
        return None
    named = config.get("dtype") or config.get("torch_dtype")
    if named in ("float64", "float32", "float16", "bfloat16"):
        stored.add(getattr(torch, named))
    return _holding(stored)


def written_dtype(loaded: LoadedModel, asked: torch.dtype | None = None) -> tuple[torch.dtype, str]:
    """The format an export is written in, and a phrase that says why.

    Args:
        asked: the format a person asked to load and write in; None where nobody did.
    """
    own, mine = own_dtype(loaded), loaded.dtype
    if asked is not None:
        return asked, f"{word(asked)}, as asked" + ("" if own in (None, asked) else f"; the checkpoint has {word(own)}")
    if own is None:
        return mine, f"{word(mine)}, as loaded: the checkpoint holds no plain numbers of its own"
    if _holding({own, mine}) == mine:
        return own, f"{word(own)}, as the checkpoint has them"
    return mine, f"{word(mine)}, as loaded; the checkpoint has {word(own)}"


def word(dtype: torch.dtype | None) -> str:
    """`bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _holding(kinds: set[torch.dtype]) -> torch.dtype:
    """The narrowest format that holds every number of these."""
    widest, *others = kinds
    for other in others:
        widest = torch.promote_types(widest, other)  # of float16 and bfloat16: float32
    return widest


def _formats(path: Path) -> set[str]:
    """Float formats of the tensors of a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    return {entry["dtype"] for name, entry in entries.items() if name != "__metadata__"} & set(STORED)
