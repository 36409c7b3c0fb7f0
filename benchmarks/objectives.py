"""Which objective tells the NLL of unseen text beforehand? Rank correlation over random scales, for every setting.

Scales are drawn around what a search by each error metric found: a random share of the way from identity to there
and past it, plus noise on every band of every head. Each draw is judged on captured attention (maths/attention_error)
and by the NLL of the whole model, both on calibration text, against the NLL of development text, by which the default
was chosen, and of held-out text, which no choice has seen.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.checkpoint import digest_of, loaded_as
from qroar_core.maths.attention_error import attention_error
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.models.capture import Capture, capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.scale_search.cached import CachedObjective
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.scale_search.state import clamp
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.statistics.correlation import spearman
from qroar_core.transforms.scales import Scales

DRAWS, WINDOWS = 60, 3
UNSEEN = ("development", "heldout")
SHARES = (-0.5, 1.5)  # of the way from identity to the searched scales
NOISE = (0.0, 0.25, 0.5, 1.0)  # octaves, standard deviation, in turn
WORDS = {
    "logits": "logit error",
    "rows": "KL of attention rows",
    "output": "attention output error",
    "projected": "output error after W_O",
    "nll": "NLL of calibration text",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One setting: which model under which interpolation and quantizer, on windows of which length."""

    name: str
    model: str
    rope: RopeSpec
    quant: QuantSpec
    length: int
    text: str


ON_DEMO = (
    Case("demo, YaRN x4, K int4", "demo", RopeSpec("yarn", 4.0), QuantSpec(k=QuantizerSpec(4)), 1024, "messages"),
    Case("demo, YaRN x4, K int3", "demo", RopeSpec("yarn", 4.0), QuantSpec(k=QuantizerSpec(3)), 1024, "messages"),
    Case(
        "demo, YaRN x4, K int3 behind a Hadamard rotation",
        "demo",
        RopeSpec("yarn", 4.0),
        QuantSpec(k=QuantizerSpec(3, rotation="hadamard")),
        1024,
        "messages",
    ),
)
ON_SMOLLM2 = (
    Case(
        "SmolLM2, YaRN x2, K int4", "smollm2", RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)), 1024, "technical"
    ),
)


def main(cases: Sequence[Case]) -> None:
    """Spearman's rho of every objective with held-out NLL, one table a setting."""
    for case in cases:
        loaded = loaded_as(case.model)
        ranked(loaded, case)


def ranked(loaded: LoadedModel, case: Case) -> None:
    """Print one setting's table."""
    texts = {name: split(name, case.text) for name in SPLITS}
    spec = SearchSpec(length=case.length, windows=WINDOWS)
    found = {
        metric: find_scales(loaded, Setting(case.rope, case.quant, search=replace(spec, error_metric=metric)), texts)
        for metric in error_metrics()
    }
    problem = SearchProblem(loaded, case.rope, case.quant, spec, texts)
    taken = capture(loaded, case.rope, problem.windows("calibration", case.length, WINDOWS), spec.query_rows)
    read = {name: problem.windows(name, case.length, WINDOWS) for name in SPLITS}
    reference = WindowScorer(loaded, case.rope, QuantSpec(), lambda step: None)
    scorer = WindowScorer(loaded, case.rope, case.quant, lambda step: None)
    objective = problem.objective(taken)
    points = [found[metric].g.log2().float() for metric in error_metrics()]
    base = judgements(taken, objective, torch.zeros_like(points[0]))
    columns: dict[str, list[float]] = {name: [] for name in (*WORDS, *UNSEEN)}
    for draw in draws(points, problem.bounds(None)):
        scales = problem.scales(draw)
        here = judgements(taken, objective, draw)
        for metric in error_metrics():
            columns[metric].append(float((here[metric] / base[metric].clamp_min(1e-30)).mean()))
        columns["nll"].append(nll(scorer, read["calibration"], scales))
        for name in UNSEEN:
            columns[name].append(nll(scorer, read[name], scales))
        print(".", end="", file=sys.stderr, flush=True)
    won = {name: recovered(scorer, reference, read[name], found, problem.none) for name in UNSEEN}
    print(
        f"**{case.name}** ({DRAWS} random scale sets, {WINDOWS} windows of {case.length} tokens of `{case.text}` "
        f"each, seed 0; digests of the tokens: {', '.join(f'{n} {digest_of(ids)}' for n, ids in read.items())})\n"
    )
    print(
        "| objective | rho with development NLL | rho with held-out NLL | a search by it recovers, development "
        "| held-out |\n|---|---|---|---|---|"
    )
    for name, words in WORDS.items():
        cells = [rho(columns[name], columns[other]) for other in UNSEEN]
        cells += [f"{won[other][name]:.1%}" if name in found else "" for other in UNSEEN]
        said = f"{words} (the default)" if name == SearchSpec().error_metric else words
        print(f"| {said} | {' | '.join(cells)} |")
    print(flush=True)


def rho(told: list[float], counted: list[float]) -> str:
    """Spearman's rho and its 95 % interval."""
    found = spearman(told, counted)
    if found is None:
        sys.exit("an objective is the same for every draw")
    return f"{found.rho:.3f} [{found.low:.3f}, {found.high:.3f}]"


def recovered(
    scorer: WindowScorer, reference: WindowScorer, ids: Tensor, found: dict[str, Scales], none: Scales
) -> dict:
    """Share of what quantization costs these windows that each error metric's scales win back."""
    exact, plain = nll(reference, ids, none), nll(scorer, ids, none)
    return {metric: (plain - nll(scorer, ids, scales)) / (plain - exact) for metric, scales in found.items()}


def draws(found: list[Tensor], bounds: Tensor) -> list[Tensor]:
    """log2 g of every draw, (layers, kv, bands), inside the bounds; around each of the found ones in turn."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for i in range(DRAWS):
        share = SHARES[0] + (SHARES[1] - SHARES[0]) * float(torch.rand(1, generator=generator))
        centre, spread = found[i % len(found)], NOISE[i // len(found) % len(NOISE)]
        out.append(clamp(share * centre + spread * torch.randn(centre.shape, generator=generator), bounds))
    return out


def judgements(taken: Capture, objective: CachedObjective, log2_g: Tensor) -> dict[str, Tensor]:
    """Every error metric's error, (layers, kv), summed over windows and rows."""
    with torch.no_grad():
        found = {}
        for metric in error_metrics():
            setup = replace(objective.setup, error_metric=metric)
            each = [
                torch.stack(
                    [
                        attention_error(layer, log2_g[i], taken.metric[i], setup).sum(-1)
                        for i, layer in enumerate(window)
                    ]
                )
                for window in taken.windows
            ]
            found[metric] = torch.stack(each).sum(0)
    return found


def nll(scorer: WindowScorer, ids: Tensor, scales: Scales) -> float:
    """Mean NLL under the quantizer and these scales, nats per token."""
    return statistics.fmean(scorer.nll(ids, scales, ""))
