"""Band scales and pair angles beside what people use already, and on top of it: SmolLM2-135M, YaRN x2, technical text.

Two settings: the K cache in int4 per token and head, and W4 in groups of 64 with K and V in int4. Every remedy is
calibrated and every band search made on calibration documents, all are measured on the same held-out windows.
"""

from __future__ import annotations

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, Name
from qroar_core.models.text import SPLITS, split
from qroar_core.remedies import run as comparison
from qroar_core.remedies.result import RemedyRow
from qroar_core.setting import Setting
from qroar_core.specs import ComparisonSpec, SearchSpec

WINDOWS, CALIBRATION, COLLECTION = 6, 4, "technical"
REMEDIES: dict[Name, tuple[str, ...]] = {"int4": (), "w4kv4": ("awq", "gptq")}


def main(name: Name) -> None:
    """The table of one setting and its findings."""
    loaded = smollm2_loaded()
    texts = {name: split(name, COLLECTION) for name in SPLITS}
    search = SearchSpec(length=LENGTH, windows=CALIBRATION, angles=True)
    words, quant = SETTINGS[name]
    spec = ComparisonSpec(REMEDIES[name], search=search, windows=WINDOWS, calibration_windows=CALIBRATION)
    result = comparison.run(loaded, Setting(ROPE, quant), spec, texts)
    print(f"{words}. {result.text[:1].upper()}{result.text[1:]}.\n")
    print("| remedy | ppl | gap recovered | gain, nats | band scales add | at run time | change in the runtime |")
    print("|---|---|---|---|---|---|---|")
    print(f"| reference | {result.reference_ppl:.3f} | | | | | |")
    for row in result.rows:
        print(line(row))
    print("\n" + "\n".join(f"- {sentence}." for sentence in result.sentences) + "\n", flush=True)


def line(row: RemedyRow) -> str:
    """One row of the table."""
    share = "" if row.gap_recovered is None else f"{row.gap_recovered:.0%}"
    gain = "" if row.gain is None else f"{row.gain:+.4f} [{row.gain_low:+.4f}, {row.gain_high:+.4f}]"
    added = "exact no-op" if row.no_op else ""
    if row.added is not None:
        added = f"{row.added:+.4f} [{row.added_low:+.4f}, {row.added_high:+.4f}]"
    cells = [row.name, f"{row.ppl:.3f}", share, gain, added, row.run_time, row.runtime_change]
    return f"| {' | '.join(cells)} |"
