"""Row scales on finished GGUF tensors: the float16 scales of the blocks change, the codes do not.

A value of a block is d * code, or d * code + m (Q4_K, Q5_K: d * sub-scale * code - dmin * sub-minimum).
d and m are float16, so a row times g is its blocks' d and m times g, each rounded once to float16.
F16, BF16 and F32 tensors have no codes: their values are multiplied and rounded once.
MXFP4 has a power of two a block, one exponent byte: exact for gains that are powers of two, refused for others.

What cannot be had to half a float16 step is refused: with x a row's dequantized values, the rounding
may move none by more than 2^-11 max|g x|. Rows whose scales leave float16's normal range break it.
Source: ggml-org/llama.cpp ggml/src/ggml-common.h (block_q4_0 ... block_q6_K), ggml-quants.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from qroar_core.errors import BadScales, UnsupportedModel

Kind = GGMLQuantizationType


@dataclass(frozen=True, slots=True)
class BlockScales:
    """Byte offsets of a block's float16 scales, and the largest integer each one multiplies."""

    offsets: tuple[int, ...]
    peaks: tuple[float, ...]


BLOCKS: dict[Kind, BlockScales] = {
    Kind.Q4_0: BlockScales((0,), (8,)),
    Kind.Q4_1: BlockScales((0, 2), (15, 1)),
    Kind.Q5_0: BlockScales((0,), (16,)),
    Kind.Q5_1: BlockScales((0, 2), (31, 1)),
    Kind.Q8_0: BlockScales((0,), (128,)),
    Kind.Q2_K: BlockScales((80, 82), (15 * 3, 15)),
    Kind.Q3_K: BlockScales((108,), (32 * 4,)),
    Kind.Q4_K: BlockScales((0, 2), (63 * 15, 63)),
    Kind.Q5_K: BlockScales((0, 2), (63 * 31, 63)),
    Kind.Q6_K: BlockScales((208,), (128 * 32,)),
    Kind.IQ4_NL: BlockScales((0,), (127,)),
}
EXPONENTS = {Kind.MXFP4: 0}  # byte offset of a block's exponent, 2^(e - 128) and 255 for NaN
LARGEST_EXPONENT = 254
HALF_STEP = {Kind.F16: 2.0**-11, Kind.BF16: 2.0**-8, Kind.F32: 2.0**-24}  # of a normal number
FLOAT16_HALF_STEP = HALF_STEP[Kind.F16]
SCALABLE = (*BLOCKS, *EXPONENTS, *HALF_STEP)


def require_scalable(name: str, kind: Kind, gains: np.ndarray) -> None:
    """Refuse rows that cannot be scaled without requantizing.

    Raises:
        UnsupportedModel: a tensor type that is not known here.
        BadScales: a gain between powers of two, where block scales are powers of two.
    """
    if kind not in SCALABLE:
        raise UnsupportedModel(
            f"{kind.name} rows cannot be scaled in place (where its scales lie is not known here)",
            where=name,
            do=f"known are {', '.join(k.name for k in SCALABLE)}",
        )
    between = np.flatnonzero(np.frexp(gains)[0] != 0.5)
    if kind in EXPONENTS and len(between):
        raise BadScales(
            f"{kind.name} block scales are powers of two, and row {between[0]} times {gains[between[0]]:.6g} is none",
            where=name,
            do="scale the full-precision model and quantize it again",
        )


def scale_rows(rows: np.ndarray, kind: Kind, gains: np.ndarray, name: str, first_row: int = 0) -> np.ndarray:
    """Rows times their gains, as bytes of the same type.

    Args:
        rows: the rows' bytes, uint8, (rows, row_bytes); not written to.
        kind: their type, one of SCALABLE.
        gains: float64, (rows,), positive.
        name, first_row: for messages.
    Returns:
        uint8, (rows, row_bytes); a row whose gain is 1 comes back bit for bit.
    Raises:
        BadScales: a product that overflows, or rounding past half a step (see the module's head).
        UnsupportedModel: a type not in SCALABLE.
    """
    require_scalable(name, kind, gains)
    out = rows.copy()
    if kind in EXPONENTS:
        _shift_exponents(out, kind, gains, name, first_row)
        return out
    if kind in HALF_STEP:
        lost, whole = _scale_values(out, kind, gains)
        step = HALF_STEP[kind]
    else:
        lost, whole = _scale_blocks(out, kind, gains)
        step = FLOAT16_HALF_STEP
    bad = ~(lost <= step * whole * (1 + 1e-9)) & (gains != 1)  # also true of NaN
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = "leaves the range of" if not np.isfinite(lost[row]) else "is too small for"
        raise BadScales(
            f"row {first_row + row} times {gains[row]:.6g} {what} its {_stored_as(kind)}",
            where=name,
            do="search within narrower bounds, or export the full-precision model",
        )
    out[gains == 1] = rows[gains == 1]
    return out


def _shift_exponents(out: np.ndarray, kind: Kind, gains: np.ndarray, name: str, first_row: int) -> None:
    """Scale in place by powers of two; exact."""
    blocks = out.reshape(len(out), -1, GGML_QUANT_SIZES[kind][1])  # (rows, blocks, bytes of a block)
    field = blocks[..., EXPONENTS[kind]]
    new = field.astype(np.int64) + (np.frexp(gains)[1] - 1)[:, None]
    bad = ((new < 0) | (new > LARGEST_EXPONENT) | (field > LARGEST_EXPONENT)).any(axis=1) & (gains != 1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise BadScales(f"row {first_row + row} times {gains[row]:.6g} leaves the range of its exponents", where=name)
    field[...] = np.where(gains[:, None] == 1, field, new).astype(np.uint8)


def _stored_as(kind: Kind) -> str:
    return "float16 scales" if kind in BLOCKS else f"{kind.name} values"


def _scale_blocks(out: np.ndarray, kind: Kind, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale in place; per row the largest change by rounding and the largest magnitude, in weights' units."""
    size, layout = GGML_QUANT_SIZES[kind][1], BLOCKS[kind]
    blocks = out.reshape(len(out), -1, size)  # (rows, blocks, bytes of a block)
    lost, whole = 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for offset, peak in zip(layout.offsets, layout.peaks, strict=True):
            field = blocks[..., offset : offset + 2]
            old = np.ascontiguousarray(field).view("<f2")[..., 0].astype(np.float64)  # (rows, blocks)
            exact = old * gains[:, None]
            new = exact.astype("<f2")
            field[...] = new[..., None].view(np.uint8)
            lost = lost + peak * np.abs(new.astype(np.float64) - exact)
            whole = whole + peak * np.abs(exact)
    return np.max(lost, axis=1), np.max(whole, axis=1)


def _scale_values(out: np.ndarray, kind: Kind, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `_scale_blocks`, of plain floats."""
    dtype = {Kind.F16: torch.float16, Kind.BF16: torch.bfloat16, Kind.F32: torch.float32}[kind]
    values = torch.from_numpy(out).view(dtype)  # (rows, inputs)
    exact = values.double() * torch.from_numpy(gains)[:, None]
    values.copy_(exact)
    lost = (values.double() - exact).abs().amax(dim=1)
    return lost.numpy(), exact.abs().amax(dim=1).numpy()
