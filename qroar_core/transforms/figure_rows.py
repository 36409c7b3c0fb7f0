"""What the figures of several kinds share: layer and KV head of each row, and how far a matrix spreads a channel."""

from __future__ import annotations

import numpy as np
import pandas as pd

from qroar_core.transforms.result import ScalesFile


def rows_of(scales: ScalesFile, nested: list) -> list[tuple[str, list[float]]]:
    """Where, and the numbers there, of g or of the angles as the file nests them."""
    if scales.granularity == "model":
        return [("whole model", nested)]
    if scales.granularity == "layer":
        return [(f"layer {scales.model.layer_number(i)}", row) for i, row in enumerate(nested)]
    return [
        (f"layer {scales.model.layer_number(i)}, KV head {h}", row)
        for i, heads in enumerate(nested)
        for h, row in enumerate(heads)
    ]


def channels_reached(matrix: np.ndarray) -> float:
    """Over how many channels a matrix (size, size) spreads one, mean over its columns: 1 to size."""
    square = matrix**2
    return float((square.sum(0) ** 2 / (square**2).sum(0)).mean())


def head_table(layers: list[str], values: list[list[float]], name: str) -> pd.DataFrame:
    """One line per layer and KV head of a table [layer][KV head], the number in the column `name`."""
    lines = [(where, head, value) for where, row in zip(layers, values, strict=True) for head, value in enumerate(row)]
    return pd.DataFrame(lines, columns=["layer", "head", name])
