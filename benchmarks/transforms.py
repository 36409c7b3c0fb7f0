"""What maps on tied pairs win back past the trained window and at short context, beside angles and a rotation.

SmolLM2-135M, YaRN x2, K in int4 per token and KV head on three texts and in int3 on one. The pairs are those that
`--tie auto` chooses at 16,384 tokens of `technical`, for every text, and the same scales are read at both lengths: a
served model has one set. Gains and shares count from the model without a tie; a row shows what the tie alone costs,
with nothing quantized. Passes are kept one by one, and shared with the headline:
`python -m benchmarks transforms.technical.int4 --minutes 50` goes on where the last one ended.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.checkpoint import NAME
from benchmarks.headline import LONG, QUANTIZED, REFERENCE, ROTATION, Table, blocks, main, with_scales
from benchmarks.headline_units import Remedy
from benchmarks.int4_int3_w4 import LENGTH as SHORT
from benchmarks.int4_int3_w4 import ROPE
from qroar_core.models.text import COLLECTIONS
from qroar_core.specs import SearchSpec

TIED_SEARCH = SearchSpec(length=LONG, windows=2, angles=True, maps=True)
TIE_ALONE = Remedy("tied pairs, not quantized", quantized=False, search=TIED_SEARCH, tied=True)
MAPS = Remedy("maps on tied pairs", search=TIED_SEARCH, tied=True)
OFFSET = Remedy("maps and a K offset on tied pairs", search=replace(TIED_SEARCH, k_offset=True), tied=True)
_, ANGLES = with_scales(SearchSpec(length=SHORT))
ASKED = (*((text, "int4") for text in COLLECTIONS), ("technical", "int3"))


def table(collection: str, quantizer: str) -> Table:
    """One quantizer on one text, at the promised window and at short context."""
    rows = (REFERENCE, QUANTIZED, ANGLES, TIE_ALONE, MAPS, OFFSET, ROTATION)
    parts = tuple(replace(block, remedies=rows) for block in blocks(quantizer, collection))
    return Table(f"transforms.{collection}.{quantizer}", NAME, ROPE, parts)


def run(collection: str, quantizer: str, minutes: float | None = None) -> None:
    """Measure what is missing of one table, for so many minutes at most, and print what is there."""
    main(table(collection, quantizer), minutes)
