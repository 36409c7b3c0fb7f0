"""Controls beside the tuned scales: what else the gain could have come from, on the demo model and SmolLM2.

One table of controls and one of number formats a model, and what they say.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.checkpoint import smollm2_loaded
from qroar_core.evidence.controls import run as controls
from qroar_core.evidence.controls.findings import measured
from qroar_core.evidence.controls.result import Controls, Estimate
from qroar_core.models import load
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import INT4_K, Setting, default_setting
from qroar_core.specs import ControlSpec, RopeSpec
from qroar_core.specs.labels import setting_words

DEMO = ControlSpec(windows=16, shuffles=4, seeds=(1, 2, 3), collections=("technical", "novels"))
SMOLLM2 = ControlSpec(windows=6, shuffles=1, seeds=(1,), collections=("messages",), dtypes=("bfloat16",))


def on_demo() -> None:
    """The embedded model, 1,024 tokens."""
    loaded = load.run("demo", device="cpu", dtype="float32")
    controlled(loaded, default_setting(loaded), DEMO)


def on_smollm2() -> None:
    """SmolLM2, 2,048 tokens of the Python language reference."""
    loaded = smollm2_loaded()
    setting = default_setting(loaded, RopeSpec("yarn", 2.0), INT4_K, 2048)
    controlled(loaded, replace(setting, text="technical"), SMOLLM2)


def controlled(loaded: LoadedModel, setting: Setting, spec: ControlSpec) -> None:
    """Search without a diagnosis, as `python -m qroar_core controls` does, and print."""
    texts = {name: split(name, setting.text) for name in SPLITS}
    found = find_scales(loaded, setting, texts)
    result = controls.run(loaded, setting, found, spec, texts)
    print(
        f"**{loaded.name}, {setting_words(setting.rope, setting.quant)}**, held-out text of `{setting.text}`: "
        f"{result.text}.\n"
    )
    table(result)
    formats(result)
    print("\n".join(f"- {finding.sentence}." for finding in result.findings), flush=True)
    print()


def table(result: Controls) -> None:
    """One line a control."""
    print("| scales | nats per token won | single draws | less than the tuned |\n|---|---|---|---|")
    for one in result.controls:
        draws = f"{one.least:+.4f} to {one.most:+.4f}" if one.draws > 1 else ""
        print(f"| {one.name} | {measured(one.gain)} | {draws} | {measured(one.lost) if one.lost else ''} |")
    print()


def formats(result: Controls) -> None:
    """One line a number format."""
    print(
        "| number format | reference above float32's | quantized above its reference | with scales |\n|---|---|---|---|"
    )
    for one in result.precisions:
        cells = [_cell(one.reference), _cell(one.cost), _cell(one.above)] if not one.problem else [one.problem, "", ""]
        print(f"| {one.dtype} | {' | '.join(cells)} |")
    print()


def _cell(found: Estimate | None) -> str:
    return measured(found) if found else ""
