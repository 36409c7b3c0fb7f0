"""What maps on tied pairs win back of an int4 K cache, the tie's own cost counted, beside angles and a rotation.

SmolLM2-135M, YaRN x2, 2,048 tokens: the same search without a tie and under several, each measured on held-out
documents that no search has read. Gains and shares count from the model without a tie.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, WINDOWS
from qroar_core.evaluation.gap import share_of_gap
from qroar_core.evaluation.run import must_rotate
from qroar_core.interpolations.tie import parse_ties, ties_words
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.progress import no_progress
from qroar_core.scale_search import run as search
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, SearchSpec
from qroar_core.statistics.intervals import paired_interval

TIES = ("", "22-23,24-25,28-31:0", "20-21,22-23,24-25,26-31:0", "22-25,26-31:0", "20-21,22-25,26-31:0")


def main(collection: str) -> None:
    """One text collection: a row a tie, the first without one, and a rotation."""
    loaded = smollm2_loaded()
    print("| remedy | ppl, not quantized | ppl, K int4 | gain, nats | share of the gap | search, bare passes |")
    print("|---|---|---|---|---|---|", flush=True)
    measured(loaded, collection)


def measured(loaded: LoadedModel, collection: str) -> None:
    """The rows."""
    _, quant = SETTINGS["int4"]
    texts = {part: split(part, collection) for part in SPLITS}
    held = windows(loaded.tokenizer, texts["heldout"], LENGTH, WINDOWS, 0)

    def nll(rope=ROPE, under: QuantSpec = quant, scales=None) -> list[float]:
        return WindowScorer(loaded, rope, under, no_progress).nll(held.ids, scales, "")

    reference, plain = nll(under=QuantSpec()), nll()

    def row(remedy: str, unquantized: list[float], found: list[float], passes: str) -> None:
        won, share = paired_interval(plain, found), share_of_gap(plain, found, reference, 0.95)
        interval = "" if share is None else f" [{share.low:.0%}, {share.high:.0%}]"
        cells = [
            remedy,
            *(f"{math.exp(fmean(one)):.3f}" for one in (unquantized, found)),
            f"{won.mean:+.4f} [{won.low:+.4f}, {won.high:+.4f}]",
            f"{won.mean / (fmean(plain) - fmean(reference)):.1%}{interval}",
            passes,
        ]
        print("| " + " | ".join(cells) + " |", flush=True)

    row("none", reference, plain, "")
    for text in TIES:
        rope = replace(ROPE, tie=parse_ties(text))
        unquantized = nll(rope, QuantSpec()) if text else reference
        for offset in (False, True) if text else (False,):
            spec = SearchSpec(length=LENGTH, angles=True, maps=bool(text), k_offset=offset)
            outcome = search.run(loaded, Setting(rope, quant, search=spec), texts)
            remedy = f"maps{' and a K offset' * offset}, pairs {ties_words(rope.tie)}" if text else "scales and angles"
            found = nll(rope, quant, outcome.found)
            row(remedy, unquantized, found, f"{outcome.report.forward_equivalents:.2f}")
    row("Hadamard rotation", reference, nll(under=must_rotate(quant)), "")
    print(
        f"\n{WINDOWS} held-out windows of {LENGTH} tokens of `{collection}`, digest {held.digest}, seed 0; intervals "
        "paired over windows, 95 %. What was found is shown whether or not development text keeps it."
    )
