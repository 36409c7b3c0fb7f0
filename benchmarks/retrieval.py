"""Who still finds what was hidden: passkey and needles under each remedy, on the same trials.

SmolLM2-135M, YaRN x2: the default search without and with `--angles`, and a Hadamard rotation beside them, on each
of two collections. The numbers hide in held-out documents, which no search has read.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.checkpoint import digest_of, smollm2_loaded
from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, Name
from qroar_core.evaluation.run import must_rotate
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.retrieval import run as retrieve
from qroar_core.retrieval.findings import QUANTIZED, REFERENCE, TUNED, compared
from qroar_core.retrieval.prompts import prompts
from qroar_core.retrieval.result import Retrieval, Trial
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RetrievalSpec, SearchSpec
from qroar_core.transforms.scales import Scales

TEXTS = ("technical", "messages")
SETTINGS_ASKED: tuple[Name, ...] = ("int4", "int3")
SPEC = RetrievalSpec(lengths=(1024,), trials=4)


def main(name: Name, collection: str) -> None:
    """The table of one setting on one collection."""
    loaded = smollm2_loaded()
    print(f"**{collection}**\n")
    tabled(loaded, collection, *SETTINGS[name])


def tabled(loaded: LoadedModel, collection: str, words: str, quant: QuantSpec) -> None:
    """Print a row for every task and condition."""
    texts = {part: split(part, collection) for part in SPLITS}

    def asked(under: QuantSpec, scales: Scales | None) -> Retrieval:
        print(".", end="", file=sys.stderr, flush=True)
        return retrieve.run(loaded, Setting(ROPE, under), scales, SPEC, texts["heldout"])

    def searched(angles: bool) -> Retrieval:
        return asked(
            quant, find_scales(loaded, Setting(ROPE, quant, search=SearchSpec(length=LENGTH, angles=angles)), texts)
        )

    scales = searched(angles=False)
    rows = [
        ("reference", scales, REFERENCE),
        (words, scales, QUANTIZED),
        ("+ scales", scales, TUNED),
        ("+ scales and angles", searched(angles=True), TUNED),
        ("+ Hadamard rotation", asked(must_rotate(quant), None), QUANTIZED),
    ]
    print(
        "| task | model | found by generation | likeliest | log-probability of the answer, nats a token "
        "| more than without a remedy | found, lost (McNemar's p) |\n|---|---|---|---|---|---|---|"
    )
    for task in scales.tasks:
        plain = _trials(scales, task, QUANTIZED)
        for said, result, who in rows:
            [cell] = [c for c in result.cells if c.task == task and c.length is None and (c.model, c.scales) == who]
            more = "|" if said == words else _against(plain, _trials(result, task, who))
            print(
                f"| {task} | {said} | {cell.hits} of {cell.trials} [{cell.hit_low:.0%}, {cell.hit_high:.0%}] "
                f"| {cell.chosen} | {cell.log_prob:.3f} [{cell.log_prob_low:.3f}, {cell.log_prob_high:.3f}] "
                f"| {more} |",
                flush=True,
            )
    read = [p.ids for p in prompts(loaded.tokenizer, texts["heldout"], SPEC, SPEC.lengths[0]) if p.ids is not None]
    depths = ", ".join(f"{depth:.0%}" for depth in scales.depths)
    print(
        f"\n{scales.text}; {SPEC.lengths[0]} tokens, depths {depths}; digest of the prompts' tokens "
        f"{digest_of(torch.cat(read))}; a guess among {scales.choices} numbers is right in {scales.chance:.0%}.\n",
        flush=True,
    )


def _trials(result: Retrieval, task: str, who: tuple[str, str]) -> list[Trial]:
    return [t for t in result.trials if t.task == task and (t.model, t.scales) == who]


def _against(plain: list[Trial], these: list[Trial]) -> str:
    """Two cells, paired over the same trials."""
    apart = compared(plain, these, SPEC.confidence)
    return ("{log_prob:+.3f} [{log_prob_low:+.3f}, {log_prob_high:+.3f}] | {gained}, {lost} ({p_value:.2g})").format(
        **apart
    )
