"""A search of interpolations made by hand, with numbers a test can name."""

from __future__ import annotations

from dataclasses import asdict

from qroar_core.interpolations.tie import Tie
from qroar_core.rope_search import findings
from qroar_core.rope_search.result import ChosenRope, RopeSearch, RopeStudy, TriedRope
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSearchSpec, RopeSpec
from qroar_core.specs.written import written

SETTING = RopeSpec("yarn", 4.0)
FULL = RopeSpec("ntk", 5.0)
UNDER = RopeSpec("yarn", 4.0, beta_fast=24.0, attention_factor=1.2, tie=(Tie(30, 31, 0.0),))
BASE = (2.0, 2.5, 3.0)
NATIVE = [10_000.0 ** (-i / 32) for i in range(32)]


def near(shift):
    return [b + shift + w for b, w in zip(BASE, (0.001, -0.001, 0.0), strict=True)]


def rope_search(won=0.05):
    """Gains in nats under the quantizer: 0.10 of the choice in full precision, `won` more of the quantizer's own."""
    long = {
        ("setting", False): near(0.0),
        ("full precision", False): near(-0.08),
        ("quantizer", False): near(-0.06),
        ("setting", True): near(0.4),
        ("full precision", True): near(0.3),
        ("quantizer", True): [n + w for n, w in zip(near(0.3 - won), (0.002, -0.002, 0.0), strict=True)],
    }
    short = {at: [n + 0.1 for n in values] for at, values in long.items()}
    rows = findings.judged(long, short, 0.95)
    worth = findings.worth(long, True, 0.95)
    chosen = {"setting": SETTING, "full precision": FULL, "quantizer": UNDER}
    speeds = {
        "setting": [f / 2 for f in NATIVE],
        "full precision": [f / 3 for f in NATIVE],
        "quantizer": [*(f / 2 for f in NATIVE[:30]), 0.0, 0.0],
    }
    tried = [("published", RopeSpec("linear", 4.0)), ("setting", SETTING), ("proposed", FULL), ("proposed", UNDER)]
    tried += [("proposed", RopeSpec("llama3", 4.0 + i)) for i in range(4)]
    return RopeSearch(
        spec=asdict(RopeSearchSpec()),
        quantization=written(QuantSpec(k=QuantizerSpec(4))),
        length=1024,
        short_length=256,
        native=256,
        windows=3,
        short_windows=3,
        confidence=0.95,
        text="3 planted windows",
        documents=["a", "b", "c"],
        absent={"dynamic": "planted away"},
        native_inv_freq=NATIVE,
        studies=[
            RopeStudy(
                quantized=quantized,
                trials=[
                    TriedRope(rope=written(rope), how=how, nll=nll + quantized * 0.3)
                    for (how, rope), nll in zip(
                        tried, (9.0, 2.5, 2.4, 2.3 if quantized else 2.45, 2.6, 2.61, 2.62, 2.63), strict=True
                    )
                ],
            )
            for quantized in (False, True)
        ],
        chosen=[
            ChosenRope(choice=choice, rope=written(rope), inv_freq=speeds[choice], attention_factor=1.1)
            for choice, rope in chosen.items()
        ],
        judged=rows,
        worth=worth,
        worth_by_document=findings.worth_by_document(long, ["a", "b", "c"], 0.95),
        reverse=findings.worth(long, False, 0.95),
        kept="quantizer" if findings.keeps(rows) else "setting",
        sentences=findings.sentences(chosen, rows, worth, None, (1024, 256, 256), 3),
        seconds=12.0,
    )
