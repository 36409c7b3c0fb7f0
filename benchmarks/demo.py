"""The demo: a cold `run demo`, and the table of the model card."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.clock import seconds
from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.result import Row
from qroar_core.models import load
from qroar_core.models.text import SPLITS, split
from qroar_core.scale_search import run as search
from qroar_core.setting import INT3_K, INT4_K, Setting, default_setting
from qroar_core.specs import EvaluationSpec, RopeSpec
from qroar_core.statistics.intervals import paired_interval

WINDOWS, TARGETS = 28, 192  # the same last tokens of each window at every length


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
    native, long = loaded.geometry.original_context, int(loaded.geometry.original_context * setting.rope.factor)
    spec = EvaluationSpec(lengths=(native, long), windows=WINDOWS, targets=TARGETS)
    yarn_name = f"{setting.rope.method} x{setting.rope.factor:g}"
    print("| RoPE | length | K cache | scales | ppl | costs over fp32, nats ± SE | KL to reference |")
    print("|---|---|---|---|---|---|---|")
    said = []
    for bits, quant in ((4, INT4_K), (3, INT3_K)):
        outcome = search.run(loaded, replace(setting, quant=quant), texts)
        plain = evaluate.run(loaded, Setting(RopeSpec(), quant, evaluation=spec), None, None, texts["heldout"])
        yarn = evaluate.run(
            loaded, Setting(setting.rope, quant, evaluation=spec), outcome.found, outcome.smooth, texts["heldout"]
        )
        for name, result in (("default", plain), (yarn_name, yarn)):
            for row in result.rows:
                if row.model == "reference" and (bits == 3 or row.scales == "tuned"):
                    continue  # said once; symmetric scales leave the reference alone
                _print_row(name, f"int{bits}", row, result.window_nll)
        for length in (native, long):
            more = paired_interval(_costs(yarn.window_nll, length), _costs(plain.window_nll, native))
            said.append(
                f"int{bits} at {length} tokens under {yarn_name} costs {more.mean:+.4f} nats "
                f"[{more.low:+.4f}, {more.high:+.4f}] more than natively at {native}."
            )
        said.append(f"int{bits} under {yarn_name}: {yarn.sentence}.")
    print(f"\nHeld-out text, {yarn.text}; symmetric scales, 8 bands per layer and KV head.")
    print("\n".join(f"- {line}" for line in said))


def _costs(window_nll: dict[str, list[float]], length: int) -> list[float]:
    """What the quantizer costs each window, nats per token."""
    rows = (window_nll[f"{length}/{model}/identity"] for model in ("quantized", "reference"))
    return [q - r for q, r in zip(*rows, strict=True)]


def _print_row(rope: str, cache: str, row: Row, window_nll: dict[str, list[float]]) -> None:
    reference = window_nll[f"{row.length}/reference/identity"]
    cost = paired_interval(window_nll[f"{row.length}/{row.model}/{row.scales}"], reference)
    quantized = row.model == "quantized"
    print(
        f"| {rope} | {row.length} | {cache if quantized else 'fp32'} | {row.scales.replace('_', ' ')} | {row.ppl:.2f} "
        f"| {f'{cost.mean:+.4f} ± {cost.se:.4f}' if quantized else ''} | {f'{row.kl_mean:.4f}' if quantized else ''} |"
    )


if __name__ == "__main__":
    card()
