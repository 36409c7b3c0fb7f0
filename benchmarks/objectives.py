"""Which objective tells held-out NLL beforehand? Rank correlation over random scales, for every setting.

Scales are drawn around the searched ones: a random share of the way from identity to them and past them, plus
noise on every band of every head. Each draw is judged on captured attention (maths/attention_judges) and by the NLL of
the whole model, both on calibration text, against the NLL of held-out text, which is what counts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qroar_core import load, search
from qroar_core.maths.attention_error import attention_error
from qroar_core.maths.rescale import Scales
from qroar_core.models import smollm2
from qroar_core.models.capture import Capture, capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.results.correlation import spearman
from qroar_core.searching.cached import CachedObjective
from qroar_core.searching.descent import clamp
from qroar_core.searching.frame import Frame
from qroar_core.searching.proof import Bench
from qroar_core.specs import JUDGES, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

DRAWS = 60
SHARES = (-0.5, 1.5)  # of the way from identity to the searched scales
NOISE = (0.0, 0.25, 0.5, 1.0)  # octaves, standard deviation, in turn
WORDS = {"logits": "logit error", "rows": "KL of attention rows", "output": "attention output error",
         "projected": "output error after W_O (the default)", "nll": "NLL of calibration text"}  # fmt: skip


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
    Case("demo, YaRN x4, K int3 behind a Hadamard rotation", "demo", RopeSpec("yarn", 4.0),
         QuantSpec(k=QuantizerSpec(3, rotation="hadamard")), 1024, "messages"),
)  # fmt: skip
ON_SMOLLM2 = (
    Case("SmolLM2, YaRN x2, K int4", "smollm2", RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)), 1024,
         "technical"),
)  # fmt: skip


def main(cases: Sequence[Case]) -> None:
    """Spearman's rho of every objective with held-out NLL, one table a setting."""
    smollm2.fetch()
    for case in cases:
        loaded = load.run(case.model, device="cpu", dtype="float32")
        ranked(loaded, case)


def ranked(loaded: LoadedModel, case: Case) -> None:
    """Print one setting's table."""
    texts = {name: split(name, case.text) for name in SPLITS}
    spec = SearchSpec(length=case.length, windows=4)
    found = search.run(loaded, case.rope, case.quant, spec, texts).found.g.log2().float()
    frame = Frame(loaded, case.rope, case.quant, spec, texts)
    taken = capture(loaded, case.rope, frame.windows("calibration", case.length, 4), spec.query_rows)
    read = {name: frame.windows(name, case.length, 4) for name in ("calibration", "heldout")}
    bench = Bench(loaded, case.rope, case.quant, lambda step: None)
    objective = frame.objective(taken)
    base = judgements(taken, objective, torch.zeros_like(found))
    columns: dict[str, list[float]] = {name: [] for name in (*WORDS, "heldout")}
    for draw in draws(found, frame.bounds(None)):
        scales = frame.scales(draw)
        here = judgements(taken, objective, draw)
        for judge in JUDGES:
            columns[judge].append(float((here[judge] / base[judge].clamp_min(1e-30)).mean()))
        columns["nll"].append(nll(bench, read["calibration"], scales))
        columns["heldout"].append(nll(bench, read["heldout"], scales))
        print(".", end="", file=sys.stderr, flush=True)
    print(f"**{case.name}** ({len(columns['heldout'])} random scale sets, 4 windows of {case.length} tokens of "
          f"`{case.text}` each, seed 0)\n")  # fmt: skip
    print("| objective | Spearman's rho with held-out NLL | 95 % interval |\n|---|---|---|")
    for name, words in WORDS.items():
        found = spearman(columns[name], columns["heldout"])
        if found is None:
            sys.exit(f"{words} is the same for every draw")
        print(f"| {words} | {found.rho:.3f} | {found.low:.3f} to {found.high:.3f} |")
    print(flush=True)


def draws(found: Tensor, bounds: Tensor) -> list[Tensor]:
    """log2 g of every draw, (layers, kv, bands), inside the bounds."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for i in range(DRAWS):
        share = SHARES[0] + (SHARES[1] - SHARES[0]) * float(torch.rand(1, generator=generator))
        noise = NOISE[i % len(NOISE)] * torch.randn(found.shape, generator=generator)
        out.append(clamp(share * found + noise, bounds))
    return out


def judgements(taken: Capture, objective: CachedObjective, log2_g: Tensor) -> dict[str, Tensor]:
    """Every judge's error, (layers, kv), summed over windows and rows."""
    with torch.no_grad():
        found = {}
        for judge in JUDGES:
            setup = replace(objective.setup, judge=judge)
            each = [torch.stack([attention_error(layer, log2_g[i], taken.metric[i], setup).sum(-1)
                                 for i, layer in enumerate(window)]) for window in taken.windows]  # fmt: skip
            found[judge] = torch.stack(each).sum(0)
    return found


def nll(bench: Bench, ids: Tensor, scales: Scales) -> float:
    """Mean NLL under the quantizer and these scales, nats per token."""
    return statistics.fmean(bench.nll(ids, scales, ""))
