"""The headline: what scales, angles and a rotation win back past the trained window, and at short context beside it.

SmolLM2-135M-Instruct was trained on windows of 8,192 tokens; YaRN x2 promises 16,384. K is cached in int4 per token
and KV head (three texts) or int3 (one). A pass over 16,384 tokens takes two to four minutes of two cores, so each is a
unit of its own (headline_passes.py): `python -m benchmarks headline --minutes 50` measures units for 50 minutes, ends
between two of them, prints the table of what is there and says what is missing; the same command goes on.

Held-out documents of `technical` and `messages` are shorter than 16,384 tokens (one is not), so those of one collection
are read one after another as one text there, and windows cross their borders; the table says where that is so.

Scales are searched as `search --length 2048` does by default: 6 calibration windows of 2,048 tokens, none past the
trained window. `headline-long-search` adds scales searched on one window of 16,384 tokens, which takes a quarter of
an hour each.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.checkpoint import NAME, smollm2_loaded
from benchmarks.headline_passes import Passes
from benchmarks.headline_table import print_block, print_missing
from benchmarks.headline_units import Block, Remedy
from benchmarks.int4_int3_w4 import LENGTH as SHORT
from benchmarks.int4_int3_w4 import ROPE, SETTINGS
from benchmarks.int4_int3_w4 import WINDOWS as SHORT_WINDOWS
from qroar_core.interpolations.registry import label_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import COLLECTIONS
from qroar_core.specs import RopeSpec, SearchSpec

KEPT = Path(__file__).parent / "results" / "headline"
LONG, LONG_WINDOWS = 16384, 4
THREADS = 2
REFERENCE, QUANTIZED = Remedy("reference", quantized=False), Remedy("quantized")
ROTATION = Remedy("Hadamard rotation", rotated=True)


def with_scales(search: SearchSpec, told: str = "") -> tuple[Remedy, Remedy]:
    """Scales alone, and scales and angles, of one search."""
    both = replace(search, angles=True)
    return Remedy(f"scales{told}", search=search), Remedy(f"scales and angles{told}", search=both)


REMEDIES = (REFERENCE, QUANTIZED, *with_scales(SearchSpec(length=SHORT)), ROTATION)
LONG_SEARCH = with_scales(SearchSpec(length=LONG, windows=1), f", searched at {LONG:,}")
TEXTS = ("technical", *(name for name in COLLECTIONS if name != "technical"))


@dataclass(frozen=True, slots=True)
class Table:
    """What one command measures, in the order in which it does."""

    name: str
    model: str  # the reference, as the table calls it
    rope: RopeSpec
    blocks: tuple[Block, ...]


def blocks(name: str, collection: str) -> tuple[Block, Block]:
    """One quantizer on one text: at the promised window, and at short context."""
    words, quant = SETTINGS[name]  # type: ignore[index]
    return (
        Block(words, quant, collection, LONG, LONG_WINDOWS, REMEDIES),
        Block(words, quant, collection, SHORT, SHORT_WINDOWS, REMEDIES),
    )


HEADLINE = Table(
    "headline", NAME, ROPE, (*(b for text in TEXTS for b in blocks("int4", text)), *blocks("int3", "technical"))
)
SEARCHED_LONG = Table(
    "headline-long-search",
    NAME,
    ROPE,
    (replace(blocks("int4", "technical")[0], remedies=(*REMEDIES[:4], *LONG_SEARCH)),),
)


def main(table: Table = HEADLINE, minutes: float | None = None) -> None:
    """Measure what is missing of a table on SmolLM2, for so many minutes at most, and print what is there."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(THREADS)
    measured(smollm2_loaded(), table, KEPT, deadline_in(minutes))


def deadline_in(minutes: float | None) -> float | None:
    """When so many minutes are over, by `time.monotonic`."""
    return None if minutes is None else time.monotonic() + 60 * minutes


def measured(loaded: LoadedModel, table: Table, folder: Path, deadline: float | None = None) -> bool:
    """`main` on any model and folder; True when nothing is missing.

    Args:
        deadline: no unit begins past it, by `time.monotonic`.
    """
    passes = Passes(loaded, table.rope, folder)
    print(
        f"{table.model}; {label_of(table.rope.method)} x{table.rope.factor:g}, K cache per token and KV head; "
        f"{loaded.dtype} on {loaded.device.type}, fingerprint {loaded.fingerprint}. The trained window is "
        f"{passes.trained:,} tokens; a token counts as past it when the one it is predicted from stands past it. "
        "Intervals are 95 %, Student's t paired over windows, of shares Fieller's.\n",
        flush=True,
    )
    whole = all(filled(passes, block, deadline) for block in table.blocks)
    for block in table.blocks:
        print_block(passes, block)
    print_missing(passes, table.name, table.blocks)
    return whole


def filled(passes: Passes, block: Block, deadline: float | None) -> bool:
    """Measure what a block lacks, window by window; False where the time was up before its end."""
    return all(window_filled(passes, block, i, deadline) for i in range(len(passes.windows_of(block))))


def window_filled(passes: Passes, block: Block, window: int, deadline: float | None) -> bool:
    """Measure what one window of a block lacks, and the searches that needs; False where the time was up."""
    for remedy in block.remedies:
        if passes.record(block, remedy, window) is not None:
            continue
        if passes.lacks_search(block, remedy):
            if past(deadline):
                return False
            passes.searches.run(block, remedy)
        if passes.record(block, remedy, window) is None:  # the scales' search may have led to a kept pass
            if past(deadline):
                return False
            passes.run(block, remedy, window)
            print(".", end="", file=sys.stderr, flush=True)
    return True


def past(deadline: float | None) -> bool:
    """Whether the time is up."""
    return deadline is not None and time.monotonic() >= deadline
