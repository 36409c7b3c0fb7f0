"""The tensors of a written GGUF against the source's with scales inside: every number within what rounding may move.

What a file rounds is known of each of its kinds, so a number is judged by its own step: that of its format, or of its
block, whose scale must be the one that the block's largest number asks for.
Source: ggml-org/ggml src/ggml-quants.c quantize_row_q8_0_ref, quantize_row_q4_0_ref.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from qroar_core.models.formats.gguf.header import read_header

Kind = GGMLQuantizationType
ROWS = 2048  # compared at a time
BLOCK = 32  # numbers that share a scale in Q8_0 and Q4_0
CODES = {Kind.Q8_0: (-127, 127), Kind.Q4_0: (-8, 7)}
FLOAT16_TIE, FLOAT16_TINY = 2.0**-11, 2.0**-25  # half a step of a float16, relative and at its small end
HALF_STEP = {Kind.F32: (0.0, 0.0), Kind.F16: (FLOAT16_TIE, FLOAT16_TINY), Kind.BF16: (2.0**-8, 0.0)}
SLACK = 1.001  # of float32 arithmetic on the way


def farthest(path: Path, wanted: dict[str, Tensor]) -> tuple[float, str]:
    """The largest distance of a number from its source, in the distance that rounding explains, and its tensor.

    Args:
        wanted: name -> tensor before rounding, (outputs, inputs) or (values,).
    Returns:
        At most 1 where nothing but rounding was done; infinite, with the reason, where tensors are missing, have
        another shape or kind, or hold what is no number.
    """
    header = read_header(path)
    if names := sorted(header.tensors.keys() ^ wanted.keys()):
        return float("inf"), f"{names[0]} is in one of the two alone"
    worst, where = 0.0, ""
    with path.open("rb") as file:
        for name, tensor in wanted.items():
            info = header.tensors[name]
            if info.shape != tuple(reversed(tensor.shape)) or info.kind not in (*HALF_STEP, *CODES):
                return float("inf"), f"{name} has another shape or type"
            file.seek(header.data_start + info.offset)
            rows = tensor.detach().float().cpu().reshape(-1, tensor.shape[-1])
            for first in range(0, len(rows), ROWS):
                part = rows[first : first + ROWS].numpy().astype(np.float64)
                raw = np.frombuffer(file.read(len(part) * info.row_bytes), np.uint8).reshape(len(part), -1)
                far = _distance(raw, part, info.kind)
                if far > worst:
                    worst, where = far, name
                if far == float("inf"):
                    return far, f"{name} holds what no rounding gives"
    return worst, where


def _distance(raw: np.ndarray, wanted: np.ndarray, kind: GGMLQuantizationType) -> float:
    found = dequantize(raw, kind).astype(np.float64)
    if kind in HALF_STEP:
        relative, least = HALF_STEP[kind]
        return _largest(np.abs(found - wanted), SLACK * (relative * np.abs(wanted) + least))
    low, high = CODES[kind]
    blocks = wanted.reshape(len(wanted), -1, BLOCK)
    ends = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    step = ends / low if kind == Kind.Q4_0 else np.abs(ends) / high
    lies = raw.reshape(*blocks.shape[:2], -1)[..., :2].copy().view("<f2").astype(np.float64)
    rounded = SLACK * (FLOAT16_TIE * np.abs(step) + FLOAT16_TINY)
    apart = _largest(np.abs(lies - step), rounded)
    codes = np.clip(np.divide(blocks, step, out=np.zeros_like(blocks), where=step != 0), low, high)
    allowed = SLACK * np.abs(step) / 2 + max(-low, high) * rounded
    return max(apart, _largest(np.abs(found.reshape(blocks.shape) - codes * step), allowed))


def _largest(distance: np.ndarray, allowed: np.ndarray) -> float:
    """The largest ratio; 0 over 0 is none, and what is no number is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(distance == 0, 0.0, distance / allowed)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    return float(ratio.max(initial=0.0))
