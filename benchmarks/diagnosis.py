"""What the full diagnosis costs, against the bare forward passes over the tokens it has to read."""

from __future__ import annotations

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.clock import bare_forward, seconds
from qroar_core.diagnostics import run as diagnose
from qroar_core.models.text import split
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec

ROPE, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
SPEC = DiagnosisSpec(length=4096, short_length=512)


def main() -> None:
    """Print the ratio: whole diagnosis over long + quantized long + short + native short bare passes."""
    loaded = smollm2_loaded()
    documents = split("calibration")
    plan = diagnose.plan(loaded, Setting(ROPE, INT4, diagnosis=SPEC), documents)
    before = bare_forward(loaded, plan.ids[None]), bare_forward(loaded, plan.short_ids)
    took = seconds(lambda: diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=SPEC), documents))
    after = bare_forward(loaded, plan.ids[None]), bare_forward(loaded, plan.short_ids)
    long, short = ((a + b) / 2 for a, b in zip(before, after, strict=True))
    needed = 2 * long + 2 * short
    print(f"{plan.text}; {len(plan.ends)} short windows of {plan.short_length} tokens\n")
    print("| | seconds | ratio |")
    print("|---|---|---|")
    print(f"| bare: long context | {long:.1f} | |")
    print(f"| bare: short windows | {short:.1f} | |")
    print(f"| bare passes it needs: long and long quantized, short and short at native RoPE | {needed:.1f} | 1 |")
    print(f"| full diagnosis | {took:.1f} | {took / needed:.2f} |")
    print(f"\nagainst the long context and one set of short windows alone: {took / (long + short):.2f}")


if __name__ == "__main__":
    main()
