"""The files of one GGUF model: a single one, or the shards of a split one, joined.

llama.cpp's gguf-split names shards `NAME-00001-of-00003.gguf`; all keys are in the first. What is a GGUF file but no
model (an adapter, an importance matrix, an image encoder, a vocabulary) is refused by that name.
Source: ggml-org/llama.cpp src/llama.cpp (llama_split_path), tools/gguf-split, gguf-py constants.py (GGUFType).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.header_entries import Header, TensorInfo

SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
NO_MODELS = {  # general.type of files that hold no model
    "adapter": ("a LoRA adapter, no model", "merge it into its base model first"),
    "imatrix": ("an importance matrix, no model", "give the model's own file"),
    "mmproj": ("an image or audio encoder (mmproj), no language model", "give the language model's file beside it"),
    "vocab": ("a vocabulary, no model", "give the model's own file"),
}


@dataclass(frozen=True, slots=True)
class FileTensor:
    """One tensor and where its bytes begin."""

    info: TensorInfo
    path: Path
    start: int  # bytes from the beginning of the file

    @property
    def shape(self) -> tuple[int, ...]:
        """Outputs first, as numpy and torch count."""
        return tuple(reversed(self.info.shape))


@dataclass(frozen=True, slots=True)
class GgufFiles:
    """All shards of a model: the keys of the first, the tensors of all."""

    path: Path  # as asked
    header: Header  # of the first shard
    tensors: dict[str, FileTensor]
    shards: tuple[Path, ...]


def one_file(path: Path, header: Header) -> GgufFiles:
    """A file that is no shard, whose header has been read."""
    placed = {name: FileTensor(info, path, header.data_start + info.offset) for name, info in header.tensors.items()}
    return GgufFiles(path, header, placed, (path,))


def gguf_files(path: Path) -> GgufFiles:
    """Read the headers of a GGUF file and of its sibling shards.

    Raises:
        BadCheckpoint: a file that is no GGUF, cut short, or a shard that is missing or of another model.
        UnsupportedModel: a GGUF file that holds no model.
    """
    header = read_header(path)
    _refuse_no_model(header, path)
    count = header.get("split.count", 1)
    if type(count) is not int or not 0 <= count <= 99_999:
        raise BadCheckpoint(f"split.count is {str(count)[:40]}", where=str(path), do="fetch it again")
    paths = [path] if count <= 1 else _siblings(path, count)
    headers = [header if one == path else read_header(one) for one in paths]
    if count > 1:
        _check_shards(paths, headers, count)
    tensors: dict[str, FileTensor] = {}
    for one, its in zip(paths, headers, strict=True):
        for name, info in its.tensors.items():
            if name in tensors:
                raise BadCheckpoint(f"tensor {name} lies in two shards", where=str(one), do="fetch them again")
            tensors[name] = FileTensor(info, one, its.data_start + info.offset)
    total = headers[0].get("split.tensors.count", len(tensors))
    if count > 1 and total != len(tensors):
        raise BadCheckpoint(f"its shards hold {len(tensors)} tensors, {total} are named", where=str(paths[0]))
    if not tensors:
        raise UnsupportedModel("a vocabulary without a model (no tensors)", where=str(path), do=NO_MODELS["vocab"][1])
    return GgufFiles(path, headers[0], tensors, tuple(paths))


def _refuse_no_model(header: Header, path: Path) -> None:
    kind, architecture = header.get("general.type", "model"), header.get("general.architecture")
    if architecture == "clip":
        kind = "mmproj"
    if kind != "model":
        what, do = NO_MODELS.get(kind, (f"general.type is {repr(kind)[:40]}, no model", "give the model's own file"))
        raise UnsupportedModel(what, where=str(path), do=do)


def _siblings(path: Path, count: int) -> list[Path]:
    match = SHARD.fullmatch(path.name)
    if match is None or int(match[3]) != count:
        raise BadCheckpoint(
            f"it is one of {count} shards, and its name does not say which",
            where=str(path),
            do=f"name it NAME-00001-of-{count:05}.gguf as it was published, beside the others",
        )
    paths = [path.with_name(f"{match[1]}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
    missing = [one.name for one in paths if not one.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadCheckpoint(
            f"shard {missing[0]}{more} of {count} is missing", where=str(path), do="put it into the same folder"
        )
    return paths


def _check_shards(paths: list[Path], headers: list[Header], count: int) -> None:
    architecture = headers[0].get("general.architecture")
    for i, (path, header) in enumerate(zip(paths, headers, strict=True)):
        if (header.get("split.no"), header.get("split.count")) != (i, count):
            raise BadCheckpoint(
                f"it says shard {header.get('split.no')} of {header.get('split.count')}, its name says {i} of {count}",
                where=str(path),
                do="fetch the shards again",
            )
        if header.get("general.architecture") not in (None, architecture):
            raise BadCheckpoint("it is a shard of another model", where=str(path), do="fetch the shards again")
