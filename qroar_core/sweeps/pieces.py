"""Cells in pieces that workers take one after another: what shares most stays together while there are enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from qroar_core.sweeps.cell import Cell, in_groups

EACH = 4  # pieces for each worker, so that none waits long for the last


def in_pieces(cells: Sequence[Cell], workers: int) -> list[list[int]]:
    """Numbers of cells. A piece is a group, which shares a reference; with few groups, its cells of one quantizer.

    Those share a diagnosis, so they are never parted.
    """
    place = {id(cell): at for at, cell in enumerate(cells)}
    groups = list(in_groups(list(cells)))
    if len(groups) < EACH * workers:
        groups = [piece for group in groups for piece in _by_quantizer(group)]
    return [[place[id(cell)] for cell in group] for group in groups]


def _by_quantizer(group: list[Cell]) -> Iterator[list[Cell]]:
    for _, piece in groupby(group, key=lambda cell: cell.quantizer_words):  # they stand together
        yield list(piece)
