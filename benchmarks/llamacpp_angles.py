"""Scales with pair angles in llama.cpp itself: F16 files of SmolLM2, q4_0 K cache, the same held-out text.

Angles mix rows, so they go into a file written anew from the dequantized weights, not into finished codes; the file
without them is written the same way. Searched under this project's own preset of the unrotated cache, and read by
llama.cpp without its rotation and with it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.checkpoint import smollm2_loaded
from benchmarks.llamacpp import COLLECTION, LENGTH, ROPE, SEARCH, TARGETS, WINDOWS, ours, row, said, served
from qroar_core.exporters import gguf_write
from qroar_core.models.llama_cpp import available
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec
from qroar_core.transforms.scales import Scales

PRESET = "q4_0-norot"


def main() -> None:
    """Search without and with angles, write three files, and let llama.cpp read them."""
    if not available():
        print("xllamacpp is not installed; pip install -r requirements-dev.txt")
        return
    loaded = smollm2_loaded()
    texts = {name: split(name, COLLECTION) for name in SPLITS}
    quant = QuantSpec(k=KV_PRESETS[PRESET].k)
    tuned = {
        angles: find_scales(loaded, Setting(ROPE, quant, search=replace(SEARCH, angles=angles)), texts)
        for angles in (False, True)
    }
    with tempfile.TemporaryDirectory() as scratch:
        heldout_table(
            loaded, Path(scratch), {"identity": None, "scales": tuned[False], "scales and angles": tuned[True]}
        )


def heldout_table(loaded: LoadedModel, folder: Path, candidates: dict[str, Scales | None]) -> None:
    """The table, and the gains over identity by llama.cpp and by the preset."""
    texts = windows(loaded.tokenizer, split("heldout", COLLECTION), LENGTH, WINDOWS)
    print(
        f"Held-out: {WINDOWS} windows of {LENGTH} tokens, the last {TARGETS} scored, digest {texts.digest}; YaRN x2, "
        "F16 weights.\n"
    )
    print("| K cache | rotation | scales | llama.cpp NLL (ppl) | preset's NLL (ppl) |")
    print("|---|---|---|---|---|")
    files = {
        name: gguf_write.run(loaded, ROPE, scales, folder / name.replace(" ", "_"), format="gguf-f16")
        for name, scales in candidates.items()
    }
    row(
        "f16",
        "no",
        "identity",
        served(loaded, files["identity"], texts.ids, "f16", False),
        ours(loaded, texts.ids, None, None),
    )
    gains = []
    for rotated, preset in (("no", PRESET), ("yes", "q4_0")):
        before: list[list[float]] = []
        for name, scales in candidates.items():
            here = [
                served(loaded, files[name], texts.ids, "q4_0", rotated == "yes"),
                ours(loaded, texts.ids, preset, scales),
            ]
            row("q4_0", rotated, name, *here)
            before = before or here
            if scales is not None:
                won, predicted = (said(base, value) for base, value in zip(before, here, strict=True))
                gains.append(f"- rotation {rotated}, {name}: gain in llama.cpp {won}; by the preset {predicted}")
    print("\n" + "\n".join(gains))


if __name__ == "__main__":
    main()
