"""The tensors of a Hugging Face folder: which safetensors files count, and every tensor in them, read when asked.

An index is the law where there is one; beside it a `consolidated.safetensors` or another copy does not count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from qroar_core.errors import BadCheckpoint
from qroar_core.models.formats.gguf_source import LFS
from qroar_core.models.formats.stored import StoredTensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make the checkpoint.

    Raises:
        BadCheckpoint: none, only pickled ones, several without an index, or an index that names a missing file.
    """
    if (folder / INDEX).is_file():
        return [_shard(folder, name) for name in sorted(set(_index(folder).values()))]
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if folder / WEIGHTS in files:
        return [folder / WEIGHTS]
    if len(files) == 1 and not files[0].name.startswith("adapter_"):
        return files
    if files:
        raise BadCheckpoint(
            f"{len(files)} safetensors files ({files[0].name}, ...) and no {INDEX}",
            where=str(folder),
            do="fetch the whole checkpoint",
        )
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BadCheckpoint(
            f"only pickled weights ({pickles[0]})", where=str(folder), do="convert them to safetensors first"
        )
    raise BadCheckpoint("no .safetensors file", where=str(folder), do="give a folder with safetensors, or a .gguf file")


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a tensor lies, and what its file's header says of it."""

    path: Path
    dtype: str  # as safetensors spells it
    shape: tuple[int, ...]

    def stored(self, name: str) -> StoredTensor:
        """The tensor as it lies, under its name in the file."""
        return StoredTensor(self.shape, partial(read_tensor, self.path, name))


def headers(folder: Path) -> dict[str, Placed]:
    """Every tensor of the checkpoint in `folder` by its name in the file.

    Raises:
        BadCheckpoint: files that cannot be read, that hold a tensor twice, or at odds with their index.
    """
    found: dict[str, Placed] = {}
    for path in weight_files(folder):
        for name, one in _names(path).items():
            if name in found:
                raise BadCheckpoint(f"{name} lies in two files", where=str(folder), do="fetch the checkpoint again")
            found[name] = one
    if (folder / INDEX).is_file():
        said, place = _index(folder), {name: one.path.name for name, one in found.items()}
        wrong = sorted(name for name in said.keys() | place.keys() if said.get(name) != place.get(name))
        if wrong:
            raise BadCheckpoint(
                f"{INDEX} puts {wrong[0]} in {said.get(wrong[0], 'no file')}, it lies in {place.get(wrong[0], 'none')}",
                where=str(folder),
                do="fetch the checkpoint again",
            )
    return found


def read_tensor(path: Path, name: str) -> Tensor:
    """One tensor of a safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _names(path: Path) -> dict[str, Placed]:
    try:
        with safe_open(path, "pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return {n: Placed(path, str(part.get_dtype()), tuple(part.get_shape())) for n, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BadCheckpoint:
    try:
        with path.open("rb") as file:
            if file.read(len(LFS)) == LFS:
                return BadCheckpoint("a Git LFS pointer, not the file itself", where=str(path), do="run: git lfs pull")
    except OSError:
        pass
    message = " ".join(str(error).split())[:200] or type(error).__name__
    return BadCheckpoint(f"weights cannot be read: {message}", where=str(path), do="fetch the checkpoint again")


def _index(folder: Path) -> dict[str, str]:
    try:
        table: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        if not table or not all(isinstance(x, str) for pair in table.items() for x in pair):
            raise ValueError("weight_map names no files")
        return table
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(
            f"{INDEX} cannot be read ({str(error)[:120]})", where=str(folder), do="fetch the checkpoint again"
        ) from error


def _shard(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BadCheckpoint(f"{INDEX} names {name[:80]}, which is not there", where=str(folder), do="fetch it")
    return path
