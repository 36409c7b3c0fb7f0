"""The tensors of a Hugging Face folder: which safetensors files count, and every tensor in them, read when asked.

An index is the law where there is one; beside it a `consolidated.safetensors` does not count. A `model.safetensors`
beside the shards of an index is what transformers 5 reads: it must be the same tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qroar_core.errors import BadCheckpoint
from qroar_core.models.checkpoint_files import has, table_in
from qroar_core.models.formats.gguf.source import LFS
from qroar_core.models.formats.stored import StoredTensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
OF_WEIGHTS = ("*.safetensors", *PICKLES, "*.gguf", "*.h5", "*.msgpack", "*.npz")  # what some reader takes for weights


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make the checkpoint.

    Raises:
        BadCheckpoint: none, only pickled ones, several without an index, or an index that names a missing file.
    """
    if has(folder, INDEX):
        return [_shard(folder, name) for name in sorted(set(_index(folder).values()))]
    files = sorted(path for path in folder.glob("*.safetensors") if has(folder, path.name))
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
    if has(folder, INDEX):
        said, place = _index(folder), {name: one.path.name for name, one in found.items()}
        wrong = sorted(name for name in said.keys() | place.keys() if said.get(name) != place.get(name))
        if wrong:
            raise BadCheckpoint(
                f"{INDEX} puts {wrong[0]} in {said.get(wrong[0], 'no file')}, it lies in {place.get(wrong[0], 'none')}",
                where=str(folder),
                do="fetch the checkpoint again",
            )
    return found


def refuse_second_copy(folder: Path) -> None:
    """A model.safetensors beside other files that the index names: one reader takes the one, another the others.

    Reads both where their headers agree.

    Raises:
        BadCheckpoint: they differ in a tensor, or a file cannot be read.
    """
    if not (has(folder, INDEX) and has(folder, WEIGHTS)) or folder / WEIGHTS in weight_files(folder):
        return
    single, shards = _names(folder / WEIGHTS), headers(folder)
    odd = min(single.keys() ^ shards.keys(), default=None)
    if odd is not None:
        raise _second_copy(folder, f"only {'the former' if odd in single else 'the latter'} holds {odd}")
    pairs = [(name, one, shards[name]) for name, one in single.items()]
    for name, one, other in pairs:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise _second_copy(folder, f"{name} is {one.dtype} {list(one.shape)}, or {other.dtype} {list(other.shape)}")
    for name, one, other in sorted(pairs, key=lambda pair: math.prod(pair[1].shape)):  # the first to differ is cheap
        if not one.path.samefile(other.path) and not torch.equal(*(_bytes(at.path, name) for at in (one, other))):
            raise _second_copy(folder, f"{name} has other values")


def _second_copy(folder: Path, difference: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"it holds two checkpoints, {WEIGHTS} and the files of {INDEX}: {difference}",
        where=str(folder),
        do=f"remove {WEIGHTS}, which transformers reads, or {INDEX} and its files",
    )


def _bytes(path: Path, name: str) -> Tensor:
    return read_tensor(path, name).reshape(-1).view(torch.uint8)


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
    table = table_in(folder / INDEX).get("weight_map")
    if not table or not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise BadCheckpoint(
            f"{INDEX} cannot be read (weight_map names no files)", where=str(folder), do="fetch the checkpoint again"
        )
    return table


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name or not has(folder, name):
        raise BadCheckpoint(f"{INDEX} names {name[:80]}, which is not there", where=str(folder), do="fetch it")
    return folder / name
