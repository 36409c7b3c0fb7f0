"""Band scales beside what people use already, and on top of it: SmolLM2-135M, YaRN x2, technical text.

Two settings: the K cache in int4 per token and head, and W4 in groups of 64 with K and V in int4. Every remedy is
calibrated and every band search made on calibration documents, all are measured on the same held-out windows.
"""

from __future__ import annotations

from qroar_core import league, load
from qroar_core.models import smollm2
from qroar_core.models.text import SPLITS, split
from qroar_core.results.league import Standing
from qroar_core.searching.seek import seek
from qroar_core.specs import LeagueSpec, Method, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec

LENGTH, WINDOWS, CALIBRATION = 2048, 6, 4
ROPE, COLLECTION = RopeSpec("yarn", 2.0), "technical"
SETTINGS: dict[str, tuple[QuantSpec, tuple[Method, ...]]] = {
    "K int4 per token and head": (QuantSpec(k=QuantizerSpec(4)), ()),
    "W4 in groups of 64, K and V int4 per token and head": (
        QuantSpec(WeightQuantSpec(4, "group", 64), QuantizerSpec(4), QuantizerSpec(4)), ("awq", "gptq"),
    ),
}  # fmt: skip


def main() -> None:
    """A table and its findings for each setting."""
    smollm2.fetch()
    loaded = load.run("smollm2", device="cpu", dtype="float32")
    texts = {name: split(name, COLLECTION) for name in SPLITS}
    search = SearchSpec(length=LENGTH, windows=CALIBRATION)
    for name, (quant, methods) in SETTINGS.items():
        spec = LeagueSpec(methods, search=search, windows=WINDOWS, calibration_windows=CALIBRATION)
        result = league.run(loaded, ROPE, quant, spec, texts, seek=seek)
        print(f"### {name}\n\n{result.text[:1].upper()}{result.text[1:]}.\n")
        print("| remedy | ppl | gap recovered | gain, nats | band scales add | at run time | change in the runtime |")
        print("|---|---|---|---|---|---|---|")
        print(f"| reference | {result.reference_ppl:.3f} | | | | | |")
        for row in result.standings:
            print(line(row))
        print("\n" + "\n".join(f"- {sentence}." for sentence in result.sentences) + "\n", flush=True)


def line(row: Standing) -> str:
    """One row of the table."""
    share = "" if row.gap_recovered is None else f"{row.gap_recovered:.0%}"
    gain = "" if row.gain is None else f"{row.gain:+.4f} [{row.gain_low:+.4f}, {row.gain_high:+.4f}]"
    added = "exact no-op" if row.no_op else ""
    if row.added is not None:
        added = f"{row.added:+.4f} [{row.added_low:+.4f}, {row.added_high:+.4f}]"
    cells = [row.name, f"{row.ppl:.3f}", share, gain, added, row.about.run_time, row.about.runtime_change]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
