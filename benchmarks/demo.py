"""The demo: a cold `run demo`, and the table of the model card."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clock import seconds
from qroar_core import evaluate, load, search
from qroar_core.models.text import SPLITS, split
from qroar_core.runs.setting import INT4_K, default_setting
from qroar_core.specs import EvaluationSpec, RopeSpec

WINDOWS, TARGETS = 16, 128  # the same 128 last tokens of each window at every length


def main() -> None:
    """Print the cold start's seconds, then the card's table."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "qroar_core", "run", "demo", "--out", str(Path(scratch) / "run")]
        took = seconds(
            lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    print(f"`python -m qroar_core run demo` from a cold start: {took:.1f} s\n")
    card()


def card() -> None:
    """What the demo model shows, as a table: `python -m benchmarks.demo` prints only this."""
    loaded = load.run("demo", device="cpu", dtype="float32")
    setting = default_setting(loaded)
    texts = {name: split(name) for name in SPLITS}
    outcome = search.run(loaded, setting.rope, INT4_K, setting.search, texts)
    native, long = loaded.geometry.original_context, int(loaded.geometry.original_context * setting.rope.factor)
    spec = EvaluationSpec(lengths=(native, long), windows=WINDOWS, targets=TARGETS)
    plain = evaluate.run(loaded, RopeSpec(), INT4_K, None, None, spec, texts["heldout"])
    yarn = evaluate.run(loaded, setting.rope, INT4_K, outcome.found, outcome.smooth, spec, texts["heldout"])
    print(f"Held-out text, {yarn.text}; symmetric scales, 8 bands per layer and KV head.\n")
    print("| RoPE | length | K cache | scales | ppl | NLL ± SE | KL to reference |")
    print("|---|---|---|---|---|---|---|")
    for name, result in (("default", plain), (f"{setting.rope.method} x{setting.rope.factor:g}", yarn)):
        for row in result.rows:
            cache = "fp32" if row.model == "reference" else "int4"
            print(
                f"| {name} | {row.length} | {cache} | {row.scales.replace('_', ' ')} | {row.ppl:.2f} "
                f"| {row.nll:.4f} ± {row.nll_se:.4f} | {row.kl_mean:.4f} |"
            )
    print(f"\n{yarn.sentence}")


if __name__ == "__main__":
    card()
