"""One Hugging Face tensor out of one or several GGUF tensors, dequantized a few rows at a time.

Nothing is read before it is asked for, and beside the tensor itself only one chunk of rows is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.files import FileTensor
from qroar_core.models.formats.stored import StoredTensor

CHUNK = 1 << 20  # values dequantized at a time
PLAIN_TYPES = {  # types that are read as they are
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
    GGMLQuantizationType.F64: torch.float64,
}
Place = Callable[[Tensor, Tensor, Tensor], None]  # (whole tensor, row numbers of the GGUF tensor, their values)


@dataclass(frozen=True, slots=True)
class TensorPart:
    """One GGUF tensor and where its rows go; in order from the first where `place` is None."""

    source: FileTensor
    place: Place | None = None


def at_rows(rows: np.ndarray | Sequence[int]) -> Place:
    """Row i goes to row `rows[i]` of the whole, all leading dimensions counted through."""
    index = torch.as_tensor(np.asarray(rows, dtype=np.int64))

    def place(whole: Tensor, numbers: Tensor, values: Tensor) -> None:
        if whole.dim() == 1:  # a bias: one GGUF row of as many values as there are rows
            whole[index] = values.view(-1)
        else:
            whole.view(-1, whole.shape[-1])[index[numbers]] = values

    return place


def assembled(shape: tuple[int, ...], pieces: Sequence[TensorPart], shift: float = 0.0) -> StoredTensor:
    """A tensor of `shape` filled by `pieces`, with `shift` added (exact in float32 for gains stored as 1 + w).

    Raises:
        BadCheckpoint: the pieces do not fill it exactly.
        UnsupportedModel: a type that gguf cannot dequantize.
    """
    for piece in pieces:
        check_kind(piece.source)
    held = sum(math.prod(piece.source.shape) for piece in pieces)
    if held != math.prod(shape):
        names = ", ".join(piece.source.info.name for piece in pieces[:3])
        raise BadCheckpoint(f"{names} hold {held} values, {list(shape)} needs {math.prod(shape)}")
    return StoredTensor(shape, partial(_values, shape, tuple(pieces), shift))


def check_kind(source: FileTensor) -> None:
    """Raises UnsupportedModel for a tensor type that cannot be dequantized."""
    if not _readable(source.info.kind):
        raise UnsupportedModel(
            f"{source.info.name} has type {source.info.kind.name}, which cannot be dequantized here",
            where=str(source.path),
            do="give a file quantized to another type",
        )


@cache
def _readable(kind: GGMLQuantizationType) -> bool:
    if kind in PLAIN_TYPES:
        return True
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _values(shape: tuple[int, ...], pieces: tuple[TensorPart, ...], shift: float) -> Tensor:
    kinds = {PLAIN_TYPES.get(piece.source.info.kind, torch.float32) for piece in pieces}
    dtype = kinds.pop() if len(kinds) == 1 and not shift else torch.float32
    whole = torch.empty(shape, dtype=dtype)
    for piece in pieces:
        info = piece.source.info
        rows, columns = info.rows, info.shape[0]
        step = max(1, CHUNK // columns)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            values = _read(piece.source, first, count).to(dtype)
            if piece.place is None:
                whole.view(rows, columns)[first : first + count] = values
            else:
                piece.place(whole, torch.arange(first, first + count), values)
    return whole.add_(shift) if shift else whole


def _read(source: FileTensor, first: int, count: int) -> Tensor:
    """Rows first to first + count, (count, columns), in float32 or the file's own float type."""
    info = source.info
    try:
        with source.path.open("rb") as file:
            file.seek(source.start + first * info.row_bytes)
            raw = np.fromfile(file, np.uint8, count * info.row_bytes)
    except OSError as error:
        raise BadCheckpoint(f"cannot be read ({error.strerror or error})", where=str(source.path)) from error
    if len(raw) != count * info.row_bytes:
        raise BadCheckpoint("the file became shorter while it was read", where=str(source.path), do="fetch it again")
    if info.kind in PLAIN_TYPES:
        return torch.from_numpy(raw).view(PLAIN_TYPES[info.kind]).view(count, -1)
    return torch.from_numpy(dequantize(raw.reshape(count, -1), info.kind)).view(count, -1)
