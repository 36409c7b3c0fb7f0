"""What pair angles win beside band scales, on three kinds of text and under harder quantizers.

SmolLM2-135M, YaRN x2: the default search without and with `--angles`, both measured on held-out documents that no
search has read, against the unquantized model, the plain quantizer and a Hadamard rotation.
"""

from __future__ import annotations

import sys

from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, TEXTS, WINDOWS, Name
from qroar_core import evaluate, load
from qroar_core.models import smollm2
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.results.evaluation import Evaluation
from qroar_core.searching.seek import seek
from qroar_core.specs import EvaluationSpec, SearchSpec


def main(name: Name) -> None:
    """One setting on its text collections; scales with angles first."""
    smollm2.fetch()
    loaded = load.run("smollm2", device="cpu", dtype="float32")
    print("| quantizer | text | searched | ppl reference | quantized | tuned | rotation | gap recovered | gain, nats |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for angles in (True, False):
        for collection in TEXTS[name]:
            measured(loaded, name, collection, angles)
    print(f"\n{WINDOWS} held-out windows of {LENGTH} tokens each, seed 0, intervals paired over windows.")


def measured(loaded: LoadedModel, name: Name, collection: str, angles: bool) -> None:
    """One row."""
    words, quant = SETTINGS[name]
    texts = {part: split(part, collection) for part in SPLITS}
    spec = SearchSpec(length=LENGTH, angles=angles)
    found = seek(loaded, ROPE, quant, spec, texts)  # the evaluation below is its proof
    asked = EvaluationSpec(lengths=(LENGTH,), windows=WINDOWS, rotation=True)
    result = evaluate.run(loaded, ROPE, quant, found, None, asked, texts["heldout"])
    if result.gain is None or result.gap_recovered is None:
        sys.exit(f"{words} on {collection}: nothing was tuned")
    print(row(words, collection, angles, result), flush=True)


def row(name: str, collection: str, angles: bool, result: Evaluation) -> str:
    """The table's line of one search."""
    ppl = {(one.model, one.scales): one.ppl for one in result.rows}
    quantized = [("quantized", scales) for scales in ("identity", "tuned", "rotation")]
    gain = result.gain
    assert gain is not None
    assert result.gap_recovered is not None
    searched = "scales and angles" if angles else "scales"
    ppls = [f"{ppl[at]:.3f}" for at in [("reference", "identity"), *quantized]]
    won = f"{gain.delta_nll:+.4f} [{gain.ci_low:+.4f}, {gain.ci_high:+.4f}]"
    cells = [name, collection, searched, *ppls, f"{result.gap_recovered:.1%}", won]
    return "| " + " | ".join(cells) + " |"
