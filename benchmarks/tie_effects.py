"""What tying RoPE pairs costs attention in full precision, and what an int4 K cache leaves under it; SmolLM2, YaRN x2.

Both are squared errors of the attention output after W_O, as a share of what rounding alone makes without any scales,
from one window that is read once (scale_search/tie_effects.py). Nothing is searched: maps spread each group evenly. The
last row is a Hadamard rotation at run time, in the same measure.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.headline_units import readable
from benchmarks.int4_int3_w4 import ROPE, SETTINGS
from qroar_core.evaluation.run import must_rotate
from qroar_core.interpolations.tie import parse_ties, ties_words
from qroar_core.models.capture import capture
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.tie_effects import TieEffects
from qroar_core.specs import SearchSpec

ROWS = 48  # queries of the window
TIES = (
    "",
    *("28-31:0", "26-31:0", "24-31:0", "26-31", "24-25", "22-23,24-25", "24-27", "22-25"),
    *("20-21,22-23,24-25,26-27,28-31", "22-23,24-25,28-31:0", "22-23,24-25,26-31"),
    *("22-25,26-31:0", "22-25,26-31", "20-23,24-27,28-31:0"),
)


def main(collection: str, length: int) -> None:
    """A row a tie."""
    loaded = smollm2_loaded()
    _, quant = SETTINGS["int4"]
    texts = {"development": readable(loaded, collection, "development", length, 1)}
    problem = SearchProblem(loaded, ROPE, quant, SearchSpec(length=length, windows=1, query_rows=ROWS), texts)
    read = problem.read("development", length, 1)
    taken = capture(loaded, ROPE, read.ids, ROWS)
    effects = TieEffects(problem, taken)
    print("| pairs | cost, not quantized | tie and rounding |\n|---|---|---|")
    for text in TIES:
        found = effects.of(parse_ties(text))
        print(f"| {ties_words(parse_ties(text)) or 'not tied'} | {found.cost:.4f} | {found.left:.3f} |")
        sys.stdout.flush()
    turned = TieEffects(replace(problem, quant=must_rotate(quant)), taken)
    print(f"| not tied, Hadamard rotation | 0.0000 | {float((turned.alone / effects.alone).mean()):.3f} |")
    print(
        f"\n{ROWS} queries of one development window of {length} tokens of `{collection}`, digest {read.digest}, "
        "seed 0; 1 is what rounding K to int4 makes without a tie and without scales."
    )
