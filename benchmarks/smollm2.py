"""SmolLM2-135M, YaRN x2, K cache int4 per token and head, 2,048-token windows: search, held-out evaluation and cost."""

from __future__ import annotations

import statistics

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.clock import bare_forward
from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.result import Evaluation
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

LENGTH, WINDOWS = 2048, 8
TEXTS = ("technical", "messages")
ROPE, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
ROTATED = QuantSpec(k=QuantizerSpec(4, rotation="hadamard"))


def main(collection: str) -> None:
    """One embedded text collection: perplexities, gains, and the search's cost in bare forward passes."""
    loaded = smollm2_loaded()
    print(f"### {collection}\n", flush=True)
    measured(loaded, collection)


def measured(loaded: LoadedModel, collection: str) -> None:
    """Search on the collection's calibration documents, evaluate on its held-out ones."""
    texts = {name: split(name, collection) for name in SPLITS}
    spec = SearchSpec(length=LENGTH)
    outcome = search.run(loaded, Setting(ROPE, INT4, search=spec), texts)
    used = windows(loaded.tokenizer, texts["calibration"], LENGTH, spec.windows, spec.seed).ids
    bare = statistics.median([bare_forward(loaded, used) for _ in range(3)])
    turned = search.run(loaded, Setting(ROPE, ROTATED, search=spec), texts)
    result = evaluate.run(
        loaded,
        Setting(ROPE, INT4, evaluation=EvaluationSpec(lengths=(LENGTH,), windows=WINDOWS)),
        outcome.found,
        outcome.smooth,
        texts["heldout"],
        rotation_tuned=turned.found,
    )
    print(f"Held-out: {result.text}. Search: {outcome.report.text}.\n")
    print("| model | scales | ppl | NLL ± SE | gap recovered |")
    print("|---|---|---|---|---|")
    for row in result.rows:
        print(
            f"| {row.model} | {row.scales.replace('_', ' ')} | {row.ppl:.3f} | {row.nll:.4f} ± {row.nll_se:.4f} "
            f"| {_recovered(result, row.model, row.scales)} |"
        )
    before, after = (_ppl(result, "quantized", s) for s in ("identity", "tuned"))
    print(f"\n{result.rotation.sentence if result.rotation else ''}")
    print(f"\n{result.sentence}; perplexity cut {1 - after / before:.1%}")
    print(
        f"Search: {outcome.report.seconds:.1f} s = {outcome.report.forward_equivalents:.2f} bare forward passes "
        f"over its {used.numel()} tokens as it measured itself, {outcome.report.seconds / bare:.2f} by three "
        f"passes timed after it ({bare:.1f} s each)\n"
    )


def _ppl(result: Evaluation, model: str, scales: str) -> float:
    return next(r.ppl for r in result.rows if (r.model, r.scales) == (model, scales))


def _recovered(result: Evaluation, model: str, scales: str) -> str:
    nll = {f"{r.model}/{r.scales}": r.nll for r in result.rows}
    if model == "reference":
        return ""
    gap = nll["quantized/identity"] - nll["reference/identity"]
    return f"{(nll['quantized/identity'] - nll[f'{model}/{scales}']) / gap:.1%}"
