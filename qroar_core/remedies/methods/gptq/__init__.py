"""GPTQ: the error of each rounded column is pushed onto the columns not yet rounded."""

from __future__ import annotations

from qroar_core.remedies.remedy import FREE, READY, Remedy, where_weights_are_rounded_by_row

REMEDY = Remedy(
    "GPTQ",
    50,
    "weights",
    FREE,
    "nothing: other codes in the same format",
    "arXiv 2210.17323, algorithm 1",
    where_weights_are_rounded_by_row,
    needs="weights with a scale per channel or per group",
    work=READY,
    tokens=128 * 2048,  # its section 4: 128 segments of 2,048 tokens
    takes_angles=False,  # they mix rows, and would take finished codes off their grid
)
