"""How much of the NLL gap gradients of the KL through the whole model win back, on three kinds of text.

SmolLM2-135M, YaRN x2, 32 bands per layer and KV head: the cached search, then `--objective kl` on calibration
documents; measured on held-out documents that no search has read.
"""

from __future__ import annotations

import sys

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, WINDOWS, Name
from qroar_core.evaluation import run as evaluate
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, EvaluationSpec, SearchSpec

BANDS = 32


def main(name: Name, collection: str) -> None:
    """One setting on one text collection."""
    loaded = smollm2_loaded()
    print(
        "| quantizer | text | ppl reference | quantized | tuned | gap recovered | gain, nats | KL in the search "
        "| tokens' digest |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    polished(loaded, name, collection)
    print(f"\n{WINDOWS} held-out windows of {LENGTH} tokens each, seed 0, intervals paired over windows.")


def polished(loaded: LoadedModel, name: Name, collection: str) -> None:
    """One row."""
    words, quant = SETTINGS[name]
    texts = {part: split(part, collection) for part in SPLITS}
    spec = SearchSpec(objective="kl", bands=BandSpec(BANDS), length=LENGTH)
    outcome = search.run(loaded, Setting(ROPE, quant, search=spec), texts)
    asked = EvaluationSpec(lengths=(LENGTH,), windows=WINDOWS, rotation=False)
    result = evaluate.run(loaded, Setting(ROPE, quant, evaluation=asked), outcome.found, None, texts["heldout"])
    ppl = {(row.model, row.scales): row.ppl for row in result.rows}
    gain, history = result.gain, {c.label: c.objective for c in outcome.report.history}
    if gain is None or result.gap_recovered is None:
        sys.exit(f"{words} on {collection}: nothing was tuned ({outcome.report.reason})")
    digest = windows(loaded.tokenizer, texts["heldout"], LENGTH, WINDOWS, asked.seed).digest
    steps = " -> ".join(f"{history[at]:.3f}" for at in ("identity", "cached result", "polish result"))
    print(
        f"| {words} | {collection} | {ppl['reference', 'identity']:.3f} | {ppl['quantized', 'identity']:.3f} "
        f"| {ppl['quantized', 'tuned']:.3f} | {result.gap_recovered:.1%} "
        f"| {gain.delta_nll:+.4f} [{gain.ci_low:+.4f}, {gain.ci_high:+.4f}] | {steps} "
        f"| {digest} |",
        flush=True,
    )
