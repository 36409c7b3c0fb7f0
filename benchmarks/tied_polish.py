"""How much of what tied pairs cost can be polished away in W_Q and W_K? SmolLM2, YaRN x2, nothing quantized.

The polish is that of the search (`scale_search/polish.py`). What is left of the cost is measured in nats on development
text, which the matrices have not seen.
"""

from __future__ import annotations

import time
from dataclasses import replace

from torch import Tensor

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.headline_units import readable
from benchmarks.int4_int3_w4 import ROPE
from qroar_core.interpolations.tie import parse_ties, ties_words
from qroar_core.models.text import windows
from qroar_core.progress import no_progress
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.polish import STEPS, find_polish
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.shared import Shared
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.statistics.intervals import paired_interval
from qroar_core.transforms.scales import Scales

TIES = ("22-25,26-31:0", "20-21,22-23,24-25,26-27,28-31")
CALIBRATION, ROWS = 2, 96  # windows; query rows of each
SHORT, WINDOWS, WINDOWS_SHORT = 2048, 2, 8


def main(collection: str, length: int) -> None:
    """A row a tie and length."""
    loaded = smollm2_loaded()
    texts = {part: readable(loaded, collection, part, length, 1) for part in ("calibration", "development")}

    def read(part: str, tokens: int, count: int) -> Tensor:
        return windows(loaded.tokenizer, texts[part], tokens, count, 0, fewer=True).ids

    def nll(rope: RopeSpec, ids: Tensor, scales: Scales | None = None) -> list[float]:
        return WindowScorer(loaded, rope, QuantSpec(), no_progress).nll(ids, scales, "")

    ids = read("calibration", length, CALIBRATION)
    unseen = [read("development", length, WINDOWS), read("development", SHORT, WINDOWS_SHORT)]
    untied = [nll(ROPE, one) for one in unseen]
    search, captures = SearchSpec(length=length, query_rows=ROWS, polish=True), Shared()
    print("| pairs | tokens | windows | cost of the tie, nats | polished | seconds |\n|---|---|---|---|---|---|")
    for text in TIES:
        rope = replace(ROPE, tie=parse_ties(text))
        problem = SearchProblem(loaded, rope, QuantSpec(), search, texts, captures)
        replace(problem, rope=ROPE, spec=search.of_kinds(())).captured(ids, no_progress)  # not counted below
        began = time.perf_counter()
        found = find_polish(problem, ids, no_progress)
        seconds = time.perf_counter() - began
        polish = replace(problem.none, polish=found.polish)
        for tokens, before in zip(unseen, untied, strict=True):
            cells = [cost(nll(rope, tokens, scales), before) for scales in (None, polish)]
            where = f"{ties_words(rope.tie)} | {tokens.shape[1]:,} | {len(tokens)}"
            print(f"| {where} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    print(
        f"\n{len(ids)} calibration windows of {ids.shape[1]:,} tokens of `{collection}`, {ROWS} queries of each, "
        f"{STEPS} steps of Adam a layer, seed 0; cost on development windows, 95 % intervals paired over windows."
    )


def cost(nll: list[float], before: list[float]) -> str:
    """NLL minus NLL without the tie, with its interval."""
    found = paired_interval(nll, before)
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
