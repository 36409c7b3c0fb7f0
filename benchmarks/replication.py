"""The papers' claims, setting by setting, on the demo model and SmolLM2: verdict, figure and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.checkpoint import smollm2_loaded
from qroar_core.evidence.replication import run as replicate
from qroar_core.evidence.replication.claims import CLAIMS
from qroar_core.evidence.replication.figure import value_words
from qroar_core.models import load
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.setting import INT3_K, INT4_K, Setting, default_setting
from qroar_core.specs import QuantSpec, ReplicationSpec, RopeSpec, WeightQuantSpec

YARN4 = RopeSpec("yarn", 4.0)
DEMO = (
    (YARN4, INT4_K),
    (YARN4, INT3_K),
    (RopeSpec("linear", 4.0), INT4_K),
    (YARN4, QuantSpec(weights=WeightQuantSpec(4))),
)
SMOLLM2 = tuple((RopeSpec(method, 2.0), INT4_K) for method in ("yarn", "linear", "ntk"))  # type: ignore[arg-type]
LENGTH = 2048


def on_demo() -> None:
    """The embedded model, 1,024 tokens, four times its native window."""
    loaded = load.run("demo", device="cpu", dtype="float32")
    replicated(loaded, default_setting(loaded), DEMO, 28)


def on_smollm2() -> None:
    """SmolLM2, 2,048 tokens of the Python language reference, within its native window."""
    loaded = smollm2_loaded()
    setting = default_setting(loaded, SMOLLM2[0][0], INT4_K, LENGTH)
    replicated(loaded, replace(setting, text="technical"), SMOLLM2, 6)


def replicated(
    loaded: LoadedModel, setting: Setting, pairs: Sequence[tuple[RopeSpec, QuantSpec]], windows: int
) -> None:
    """Print claims x settings, and below it what each figure rests on."""
    texts = {name: split(name, setting.text) for name in SPLITS}
    result = replicate.run(loaded, setting, pairs, ReplicationSpec(windows=windows), texts)
    print(
        f"**{loaded.name}**, held-out text of `{setting.text}`: {result.text}; short context {result.short_length}, "
        f"native window {result.native} tokens.\n"
    )
    print(f"| claim | {' | '.join(case.name for case in result.cases)} |\n|---|{'---|' * len(result.cases)}")
    for name, rule in CLAIMS.items():
        claims = [next(c for c in case.claims if c.name == name) for case in result.cases]
        print(f"| {rule.statement} | {' | '.join(f'**{c.verdict}** {value_words(c)}'.strip() for c in claims)} |")
    print()
    for case in result.cases:
        print(f"{case.name}:")
        print("\n".join(f"- {CLAIMS[claim.name].statement}: {claim.detail}." for claim in case.claims))
        print(flush=True)
