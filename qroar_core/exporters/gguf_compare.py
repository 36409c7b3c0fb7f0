"""A scaled copy of a GGUF held against its source, on bytes and on values as gguf itself dequantizes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf.quants import dequantize

from qroar_core.errors import BadCheckpoint
from qroar_core.exporters.gguf_copy import described, row_gains
from qroar_core.models.formats.gguf.blocks import BLOCKS, EXPONENTS, FLOAT16_HALF_STEP, HALF_STEP
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.header_entries import Header, TensorInfo
from qroar_core.models.formats.gguf.model import ROPE_FREQS, ROPE_TENSORS, GgufModel, understood
from qroar_core.models.formats.gguf.source import label_of
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

ROWS = 256  # compared at a time
Rows = tuple[np.ndarray, np.ndarray, int]  # bytes in the source, bytes in the copy, first row


@dataclass(frozen=True, slots=True)
class Compared:
    """Counts of tensors, whether bytes agree, and the largest distance of a row from g times its source.

    `half_steps` is in half steps of the stored type, against the row's largest value (its largest d * code
    plus largest m where a block has both, each rounded once).
    """

    untouched: int
    edited: int
    others_same: bool
    codes_same: bool
    half_steps: float


def compare(
    source: Path, copy: Path, scales: Scales | None, *, factor: float = 1.0, interpolated: bool = False
) -> Compared:
    """Every tensor of both files, but those of the interpolation where the copy got one of its own.

    Args:
        factor: what q and k were multiplied by beside `scales` (exporters.written_rope.WrittenRope).
    Raises:
        BadCheckpoint: the files do not hold the same tensors.
    """
    model, new = understood(source, read_header(source)), read_header(copy)
    old = model.header
    past = ROPE_TENSORS if interpolated else ()
    infos = [info for info in old.tensors.values() if info.name not in past]
    shapes = {t.name: (t.shape, t.kind) for t in infos}
    if {t.name: (t.shape, t.kind) for t in new.tensors.values() if t.name not in past} != shapes:
        raise BadCheckpoint(f"its tensors are not those of {label_of(source)}", where=str(copy))
    gains = row_gains(model, scales, factor)
    others_same = codes_same = True
    worst = 0.0
    with source.open("rb") as a, copy.open("rb") as b:
        for info in infos:
            gain = gains.get(info.name)
            for before, after, first in _rows(a, b, model, new, info):
                if gain is None:
                    others_same &= np.array_equal(before, after)
                    continue
                codes_same &= np.array_equal(_codes(before, info), _codes(after, info))
                worst = max(worst, _half_steps(before, after, info, gain[first : first + len(before)]))
    return Compared(len(infos) - len(gains), len(gains), others_same, codes_same, worst)


def compare_keys(source: Path, copy: Path, rope: RopeSpec) -> tuple[str, str, bool]:
    """Whether a copy has the source's metadata, and that of `rope` where it brings one; its divisors among them."""
    question = "other keys against the source's and the interpolation's"
    keys, divisors = described(understood(source, read_header(source)), rope)
    found = read_header(copy)
    old, new = ({key: entry.raw for key, entry in one.items()} for one in (keys, found.entries))
    other = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if divisors is not None:
        info = found.tensors.get(ROPE_FREQS)
        with copy.open("rb") as file:
            file.seek(found.data_start + (info.offset if info else 0))
            held = file.read(info.nbytes) if info else b""
        other += [] if held == divisors.astype("<f4").tobytes() else [ROPE_FREQS]
    return question, f"{', '.join(other)} differ" if other else f"{len(old)} byte for byte", not other


def _rows(a: BinaryIO, b: BinaryIO, model: GgufModel, new: Header, info: TensorInfo) -> Iterator[Rows]:
    """Every row, some at a time; a bias is one row a value."""
    rows, row_bytes = info.rows, info.row_bytes
    if len(info.shape) == 1:
        rows, row_bytes = info.shape[0], info.nbytes // info.shape[0]
    a.seek(model.header.data_start + info.offset)
    b.seek(new.data_start + new.tensors[info.name].offset)
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        before, after = (np.frombuffer(f.read(count * row_bytes), np.uint8).reshape(count, -1) for f in (a, b))
        yield before, after, first


def _codes(raw: np.ndarray, info: TensorInfo) -> np.ndarray:
    """All bytes that are no scale; none in a tensor of plain numbers."""
    if info.kind in BLOCKS:
        scales = [at + i for at in BLOCKS[info.kind].offsets for i in (0, 1)]
    elif info.kind in EXPONENTS:
        scales = [EXPONENTS[info.kind]]
    else:
        return raw[:0]
    return np.delete(raw.reshape(-1, GGML_QUANT_SIZES[info.kind][1]), scales, axis=1)


def _half_steps(before: np.ndarray, after: np.ndarray, info: TensorInfo, gains: np.ndarray) -> float:
    wanted = dequantize(before, info.kind).astype(np.float64) * gains[:, None]
    apart = np.abs(dequantize(after, info.kind) - wanted).max(axis=1)
    step = HALF_STEP.get(info.kind, FLOAT16_HALF_STEP)
    whole = np.abs(wanted).max(axis=1) + (_largest_shift(after, info) if info.kind in BLOCKS else 0.0)
    ratio = np.divide(apart, step * whole, out=np.zeros_like(apart), where=whole > 0)
    return float(np.where(gains == 1, np.where(apart > 0, np.inf, 0.0), ratio).max())


def _largest_shift(raw: np.ndarray, info: TensorInfo) -> np.ndarray:
    """Largest |m| (or dmin * sub-minimum) a row's blocks could add; 0 where blocks have one scale; (rows,)."""
    layout, size = BLOCKS[info.kind], GGML_QUANT_SIZES[info.kind][1]
    if len(layout.offsets) == 1:
        return np.zeros(len(raw))
    at, blocks = layout.offsets[1], raw.reshape(len(raw), -1, size)
    shift = np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")[..., 0].astype(np.float64)
    return 2 * layout.peaks[1] * np.abs(shift).max(axis=1)  # |d * code| <= |value| + |m|
