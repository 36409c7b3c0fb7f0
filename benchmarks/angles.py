"""What pair angles win beside band scales, on three kinds of text and under harder quantizers.

SmolLM2-135M, YaRN x2: the default search without and with `--angles`, both measured on held-out documents that no
search has read, against the unquantized model, the plain quantizer and a Hadamard rotation.
"""

from __future__ import annotations

import math
from statistics import fmean

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, WINDOWS, Name
from qroar_core.evaluation.run import must_rotate
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.progress import no_progress
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, SearchSpec
from qroar_core.statistics.intervals import paired_interval


def main(name: Name, collection: str) -> None:
    """One setting on one text collection, two rows."""
    loaded = smollm2_loaded()
    print(
        "| quantizer | text | searched | ppl reference | quantized | tuned | rotation | gap recovered | gain, nats "
        "| tokens' digest |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    measured(loaded, name, collection)
    print(f"\n{WINDOWS} held-out windows of {LENGTH} tokens each, seed 0, intervals paired over windows.")


def measured(loaded: LoadedModel, name: Name, collection: str) -> None:
    """The rows of one text collection: scales alone, then scales and angles."""
    words, quant = SETTINGS[name]
    texts = {part: split(part, collection) for part in SPLITS}
    held = windows(loaded.tokenizer, texts["heldout"], LENGTH, WINDOWS, 0)
    ids = held.ids
    reference, identity, rotation = (
        WindowScorer(loaded, ROPE, under, no_progress).nll(ids, None, "")
        for under in (QuantSpec(), quant, must_rotate(quant))
    )
    lost = paired_interval(identity, reference).mean
    for angles, searched in ((False, "scales"), (True, "scales and angles")):
        found = find_scales(loaded, Setting(ROPE, quant, search=SearchSpec(length=LENGTH, angles=angles)), texts)
        tuned = WindowScorer(loaded, ROPE, quant, no_progress).nll(ids, found, "")
        gain = paired_interval(identity, tuned)
        ppl = [f"{math.exp(fmean(nll)):.3f}" for nll in (reference, identity, tuned, rotation)]
        won = [f"{gain.mean / lost:.1%}", f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"]
        print("| " + " | ".join([words, collection, searched, *ppl, *won, held.digest]) + " |", flush=True)
