"""Does pulling scales towards 1 help? Searches on little text, pulled ever harder, read on text they have not seen.

A pull is a hyper-parameter: it may be chosen on development text only, held-out text then says what the choice won.
Where least text is searched there is most noise to follow, so windows are few here.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmarks.checkpoint import digest_of, loaded_as
from benchmarks.objectives import ON_DEMO, ON_SMOLLM2, Case
from qroar_core.models.text import SPLITS, split
from qroar_core.progress import no_progress
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, SearchSpec
from qroar_core.statistics.intervals import paired_interval

PULLS = (0.0, 0.01, 0.03, 0.1, 0.3)
SEARCHED, READ = (1, 4), 8  # windows
DEMO, SMOLLM2 = ON_DEMO[0], ON_SMOLLM2[0]


def main(case: Case) -> None:
    """One setting's table: a row for every pull and count of windows searched."""
    loaded = loaded_as(case.model)
    texts = {name: split(name, case.text) for name in SPLITS}
    plain = SearchSpec(length=case.length)
    problem = SearchProblem(loaded, case.rope, case.quant, plain, texts)
    quantized = WindowScorer(loaded, case.rope, case.quant, no_progress)
    exact = WindowScorer(loaded, case.rope, QuantSpec(), no_progress)
    read = {name: problem.windows(name, case.length, READ) for name in ("development", "heldout")}
    reference = {name: exact.nll(ids, None, "") for name, ids in read.items()}
    identity = {name: quantized.nll(ids, None, "") for name, ids in read.items()}
    print(
        f"**{case.name}** ({case.length} tokens of `{case.text}`, seed 0; read on {READ} windows of each split, "
        f"digests of their tokens: {', '.join(f'{n} {digest_of(ids)}' for n, ids in read.items())})\n"
    )
    print(
        "| windows searched | l2 penalty | mean abs log2 g | gap recovered, development | held-out "
        "| more than without a pull, held-out nats |\n|---|---|---|---|---|---|"
    )
    for windows in SEARCHED:
        free: list[float] = []
        for l2_penalty in PULLS:
            spec = replace(plain, windows=windows, l2_penalty=l2_penalty)
            found = find_scales(loaded, Setting(case.rope, case.quant, search=spec), texts)
            here = {name: quantized.nll(ids, found, "") for name, ids in read.items()}
            won = [
                f"{paired_interval(identity[name], here[name]).mean / lost:.1%}"
                for name in read
                if (lost := paired_interval(identity[name], reference[name]).mean)
            ]
            free = free or here["heldout"]
            more = paired_interval(free, here["heldout"])
            said = f"{more.mean:+.4f} [{more.low:+.4f}, {more.high:+.4f}]" if l2_penalty else ""
            print(
                f"| {windows} | {l2_penalty:g} | {found.g.log2().abs().mean():.2f} | {' | '.join(won)} | {said} |",
                flush=True,
            )
            print(".", end="", file=sys.stderr, flush=True)
    print(flush=True)
