"""Results made by hand, with numbers a test can name."""

from __future__ import annotations

import math

from qroar_core.results import Diagnosis, Evaluation, ScalesFile, SearchReport
from qroar_core.results.evaluation import Attribution, Gain, PositionCurve, Row
from qroar_core.results.scales import ModelIdentity
from qroar_core.results.search import Candidate, Verdict


def row(length, model, scales, nll, se=0.01):
    return Row(length=length, model=model, scales=scales, nll=nll, nll_se=se, ppl=math.exp(nll), tokens=2048,
               kl_mean=0.1, kl_p99=1.0, same_top1=0.9)  # fmt: skip


def evaluation(significant=True):
    rows = [
        row(length, model, scales, nll + 0.1 * (length == 1024))
        for length in (256, 1024)
        for model, scales, nll in (
            ("reference", "identity", 2.0),
            ("reference", "tuned", 2.0),
            ("quantized", "identity", 2.5),
            ("quantized", "tuned", 2.25),
            ("quantized", "smooth_attention", 2.4),
            ("quantized", "rotation", 2.2),
        )
    ]
    low = 0.2 if significant else -0.1
    return Evaluation(
        rows=rows,
        gain=Gain(
            length=1024, delta_nll=0.25, ci_low=low, ci_high=0.3, significant=significant, windows=16, confidence=0.95
        ),
        attribution=Attribution(quantization_repair=0.24, retuning=0.01, repair_ci_low=0.19, repair_ci_high=0.29),
        gap_recovered=0.5 if significant else None,
        smooth_attention_gap_recovered=0.2,
        sentence="significant gain: +0.2500 nats"
        if significant
        else "no significant gain: keep identity (+0.2500 nats)",
        text="16 windows, 128 targets each, digest abcd1234, seed 0",
        positions=PositionCurve(
            position=[900, 960, 1020],
            curves={"reference/identity": [2.0, 2.1, 2.2], "quantized/tuned": [2.2, 2.3, 2.4]},
        ),
    )


def report(chosen="found", n=5):
    history = [Candidate(step=0, label="identity", objective=1.0, best=1.0)]
    history += [Candidate(step=i, label=f"gradient step {i}", objective=1 - i / n + 0.3 * (i % 2), best=1 - i / n)
                for i in range(1, n)]  # fmt: skip
    return SearchReport(
        verdict=Verdict(acts="yes", reason="Scales can act: planted."),
        method="gradient", objective="cached", objective_identity=1.0, objective_found=0.2, history=history,
        bounds=[[(-1.0, 1.0), (-0.5, 0.5)]], trials=n, seconds=3.0, forward_seconds=1.0, forward_equivalents=3.0,
        guard="short context costs +0.001 nats", text="4 windows", chosen=chosen,
        reason="the held-out interval excludes zero" if chosen == "found" else "the held-out interval includes zero",
    )  # fmt: skip


def scales(granularity="kv_head", g=None):
    g = g or {"model": [2.0, 0.5], "layer": [[2.0, 0.5], [1.0, 1.0]],
              "kv_head": [[[2.0, 0.5], [1.0, 1.0]], [[4.0, 1.0], [1.0, 0.25]]]}[granularity]  # fmt: skip
    return ScalesFile(
        model=ModelIdentity(name="tiny", fingerprint="f", family="llama", layers=2, kv_heads=2, head_dim=8,
                            rotary_dim=8,
                            pairing="half"),
        rope={}, quantization={}, mode="symmetric", granularity=granularity, bands=[(0, 1), (2, 3)], g=g,
    )  # fmt: skip


def diagnosis():
    return Diagnosis()
