"""What value maps win back of an int4 K and V cache, beside scales and angles alone and Hadamard rotations.

SmolLM2-135M, YaRN x2, 2,048 tokens: one search of scales, angles and value maps, its parts measured apart and together
on held-out documents that no search has read. A Hadamard rotation of V costs no run time either where it is folded into
W_V and W_O (QuaRot's R2); one of K is the runtime's to do.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.int4_int3_w4 import LENGTH, ROPE, WINDOWS
from qroar_core.evaluation.gap import share_of_gap
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.progress import no_progress
from qroar_core.remedies.methods.value_rotation.prepare import rotated_values
from qroar_core.scale_search import run as search
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, SearchSpec
from qroar_core.statistics.intervals import paired_interval
from qroar_core.transforms.scales import Scales

INT4 = QuantizerSpec(4)
TURNED = replace(INT4, rotation="hadamard")
BOTH = QuantSpec(k=INT4, v=INT4)


def main(collection: str) -> None:
    """One text collection: a row a remedy."""
    loaded = smollm2_loaded()
    print("| remedy | runtime must rotate | ppl, K and V int4 | gain, nats | share of the gap |")
    print("|---|---|---|---|---|", flush=True)
    measured(loaded, collection)


def measured(loaded: LoadedModel, collection: str) -> None:
    """The rows."""
    texts = {part: split(part, collection) for part in SPLITS}
    held = windows(loaded.tokenizer, texts["heldout"], LENGTH, WINDOWS, 0)

    def nll(under: QuantSpec = BOTH, scales: Scales | None = None) -> list[float]:
        return WindowScorer(loaded, ROPE, under, no_progress).nll(held.ids, scales, "")

    reference, plain = nll(QuantSpec()), nll()

    def row(remedy: str, rotates: str, found: list[float]) -> None:
        won, share = paired_interval(plain, found), share_of_gap(plain, found, reference, 0.95)
        interval = "" if share is None else f" [{share.low:.0%}, {share.high:.0%}]"
        cells = [
            remedy,
            rotates,
            f"{math.exp(fmean(found)):.3f}",
            f"{won.mean:+.4f} [{won.low:+.4f}, {won.high:+.4f}]",
            f"{won.mean / (fmean(plain) - fmean(reference)):.1%}{interval}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)

    rotated = rotated_values(loaded.geometry)
    row("none", "", plain)
    row("Hadamard rotation of V alone (R2)", "", nll(BOTH, rotated))
    row("Hadamard rotation of K alone", "K", nll(QuantSpec(k=TURNED, v=INT4)))
    row("Hadamard rotation of K and V", "K", nll(QuantSpec(k=TURNED, v=TURNED)))
    spec = SearchSpec(length=LENGTH, angles=True, value_maps=True)
    outcome = search.run(loaded, Setting(ROPE, BOTH, search=spec), texts)
    found = outcome.found
    only_v = replace(rotated, value_maps=found.value_maps)
    row("value maps alone", "", nll(BOTH, only_v))
    row("scales and angles", "", nll(BOTH, replace(found, value_maps=None)))
    row("scales, angles, rotation of V (R2)", "", nll(BOTH, replace(found, value_maps=rotated.value_maps)))
    row("scales, angles, value maps", "", nll(BOTH, found))
    row("Hadamard rotation of K, value maps", "K", nll(QuantSpec(k=TURNED, v=INT4), only_v))
    report = outcome.report
    said = "" if report.value_maps is None else f" Value maps: {report.value_maps.words}."
    print(
        f"\nUnquantized: ppl {math.exp(fmean(reference)):.3f}. {WINDOWS} held-out windows of {LENGTH} tokens of "
        f"`{collection}`, digest {held.digest}, seed 0; intervals paired over windows, 95 %.{said} The search took "
        f"{report.forward_equivalents:.2f} bare passes over its text; {report.reason}."
    )
