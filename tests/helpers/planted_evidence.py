"""Controls and a replication made by hand, with numbers a test can name."""

from __future__ import annotations

from dataclasses import asdict

from qroar_core.evidence.controls.findings import controls_of, findings, precision_of
from qroar_core.evidence.controls.result import Controls, Estimate
from qroar_core.evidence.replication.claims import untestable
from qroar_core.evidence.replication.result import Claim, Replication, SettingClaims
from qroar_core.specs import ControlSpec, QuantizerSpec, QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.specs.written import written

BASE = [2.0, 2.5, 3.0]


def near(shift):
    return [b + shift + w for b, w in zip(BASE, (0.001, -0.001, 0.0))]


def controls(bands=0.45, problem=""):
    """Gains in nats: tuned 0.2, bands 0.4 - bands, heads 0.12, novels 0.15."""
    nll = {
        "reference/identity": [BASE],
        "reference/tuned": [BASE],
        "quantized/identity": [near(0.4)],
        "quantized/tuned": [near(0.2)],
        "shuffled bands": [near(bands - 0.01), near(bands + 0.01)],
        "shuffled heads": [near(0.28)],
        "novels": [near(0.25)],
    }
    half = {"reference/identity": [near(0.01)], "quantized/identity": [near(0.41)], "quantized/tuned": [near(0.22)]}
    if problem:
        half = {name: [[float("nan")] * 3] for name in half}
    made = controls_of(nll, 0.95)
    formats = [
        precision_of("float32", nll, BASE, 0.95, loaded=True),
        precision_of("bfloat16", half, BASE, 0.95, loaded=False),
    ]
    return Controls(
        spec=asdict(ControlSpec()),
        mode="symmetric",
        length=1024,
        windows=3,
        confidence=0.95,
        text="3 planted windows",
        controls=made,
        precisions=formats,
        findings=findings(made, formats, "symmetric"),
        window_nll=nll,
    )


def claim(name, verdict, mean, low, high, detail="planted"):
    return Claim(name=name, verdict=verdict, value=Estimate(mean=mean, low=low, high=high), detail=detail)


def replication(settings=("YaRN ×4, K int4 per token", "linear ×4, K int4 per token")):
    """Per setting 4 claims hold, 1 does not, 1 is undecided, 2 cannot be tested."""
    claims = [
        claim("amplified", "holds", 0.05, 0.03, 0.07),
        untestable("amplified_long", "within the native window"),
        claim("pressure", "holds", 0.8, 0.6, 0.9),
        claim("weighted_pressure", "does not hold", -0.5, -0.8, -0.1),
        claim("tails_k", "holds", 1.05, 1.01, 1.09),
        claim("tails_q", "undecided", 1.0, 0.95, 1.05),
        untestable("short_context", "the scales are shared"),
        claim("perplexity", "holds", 18.1, 16.0, 20.2),
    ]
    quant = written(QuantSpec(k=QuantizerSpec(4)))
    return Replication(
        spec=asdict(ReplicationSpec()),
        length=1024,
        short_length=256,
        native=256,
        windows=3,
        confidence=0.95,
        tolerance=0.01,
        least_cut=0.07,
        text="3 planted windows",
        cases=[
            SettingClaims(name=name, rope=written(RopeSpec()), quantization=quant, claims=claims) for name in settings
        ],
    )
