"""SmolLM2 in llama.cpp with a q4_0 K cache, the same GGUF scaled and unscaled, on held-out text.

Needs the wheel xllamacpp (requirements-dev.txt). The scales are searched here under this project's own
q4_0 preset (without and with llama.cpp's rotation), put into a copy of the file by `exporters.gguf_copy`,
and both files are read by llama.cpp. Beside every figure stands what the preset predicts.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.checkpoint import smollm2_loaded
from qroar_core.exporters import gguf_copy
from qroar_core.models import smollm2
from qroar_core.models.llama_cpp import LlamaCpp, LlamaCppStates, available, rotation_disabled
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import token_nll
from qroar_core.models.stream import Condition
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.models.window_losses import measure
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.statistics.intervals import NO_GAIN, paired_interval
from qroar_core.transforms.file import from_file, to_file

ROPE = RopeSpec("yarn", 2.0)
LENGTH, TARGETS, WINDOWS = 640, 512, 16  # tokens read, tokens scored at their end, texts
CHECKED = 8  # tokens whose log-probability is asked from llama.cpp one call at a time, too
SEARCH = SearchSpec(length=LENGTH)
COLLECTION = "technical"
PRESETS = {"no": "q4_0-norot", "yes": "q4_0"}  # rotated by llama.cpp?


def main() -> None:
    """Search, write, and let llama.cpp read."""
    if not available():
        print("xllamacpp is not installed; pip install -r requirements-dev.txt")
        return
    loaded = smollm2_loaded()
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        heldout_table(loaded, Path(scratch), lambda preset: searched(loaded, preset, Path(scratch)))
    print(f"{time.perf_counter() - wall:.0f} s, {time.process_time() - cpu:.0f} s of one core\n")


def searched(loaded: LoadedModel, preset: str, folder: Path) -> tuple[Path, str]:
    """scales.json found under a preset's K cache, and the search's own verdict on them."""
    quant = QuantSpec(k=KV_PRESETS[preset].k)
    texts = {name: split(name, COLLECTION) for name in SPLITS}
    outcome = search.run(loaded, Setting(ROPE, quant, search=SEARCH), texts)
    path = folder / f"{preset}.json"
    path.write_text(to_file(loaded, ROPE, quant, outcome.found).to_json())
    return path, outcome.report.reason


def heldout_table(loaded: LoadedModel, folder: Path, scales_of: Callable[[str], tuple[Path, str]]) -> None:
    """The table: llama.cpp's NLL beside ours, and both gains with their paired intervals over windows.

    Args:
        folder: where the copies of the file go.
        scales_of: scales.json for a preset's name, and what its search said.
    """
    texts = windows(loaded.tokenizer, split("heldout", COLLECTION), LENGTH, WINDOWS)
    plain = gguf_copy.run(smollm2.gguf_path(), None, ROPE, folder / "plain")
    print(f"Held-out: {WINDOWS} windows of {LENGTH} tokens, the last {TARGETS} scored, digest {texts.digest}; YaRN x2.")
    print(
        f"llama.cpp's states against its own completions, {CHECKED} tokens: {checked(loaded, plain, texts.ids):.4f} "
        "nats at most.\n"
    )
    print("| K cache | rotation | scales | llama.cpp NLL (ppl) | preset's NLL (ppl) |")
    print("|---|---|---|---|---|")
    row("f16", "no", "identity", served(loaded, plain, texts.ids, "f16", False), ours(loaded, texts.ids, None, None))
    gains = []
    for rotated, preset in PRESETS.items():
        pairs = [(served(loaded, plain, texts.ids, "q4_0", rotated == "yes"), ours(loaded, texts.ids, preset, None))]
        row("q4_0", rotated, "identity", *pairs[0])
        file, verdict = scales_of(preset)
        tuned = gguf_copy.run(smollm2.gguf_path(), file, ROPE, folder / preset)
        scales, _ = from_file(file, loaded)
        pairs.append(
            (served(loaded, tuned, texts.ids, "q4_0", rotated == "yes"), ours(loaded, texts.ids, preset, scales))
        )
        row("q4_0", rotated, "tuned", *pairs[1])
        gains.append(
            f"- rotation {rotated}: gain in llama.cpp {said(pairs[0][0], pairs[1][0])}; predicted by the "
            f"preset {said(pairs[0][1], pairs[1][1])}. The search had said: {verdict}"
        )
    print("\n" + "\n".join(gains) + "\n")


def served(loaded: LoadedModel, folder: Path, ids: torch.Tensor, k_cache: str, rotated: bool) -> list[float]:
    """NLL of each window's targets as llama.cpp gives it, from its final hidden states."""
    with rotation_disabled(not rotated):
        server = LlamaCppStates(next(folder.glob("*.gguf")), LENGTH + 8, k_cache)
    states = torch.stack([server.states(row.tolist())[-TARGETS - 1 : -1] for row in ids])
    return token_nll(loaded, states, ids[:, -TARGETS:]).double().mean(1).tolist()


def checked(loaded: LoadedModel, folder: Path, ids: torch.Tensor) -> float:
    """Largest distance, nats, of log-probabilities by states from those llama.cpp reports token by token."""
    file, window = next(folder.glob("*.gguf")), ids[0].tolist()
    with rotation_disabled():
        asked = LlamaCpp(file, LENGTH + 8, "q4_0").log_probabilities(window, LENGTH - CHECKED)
        states = LlamaCppStates(file, LENGTH + 8, "q4_0").states(window)[None, -CHECKED - 1 : -1]
    by_states = -token_nll(loaded, states, ids[:1, -CHECKED:])[0]
    return float((by_states - torch.tensor(asked)).abs().max())


def ours(loaded: LoadedModel, ids: torch.Tensor, preset: str | None, scales: object) -> list[float]:
    """NLL of each window under the project's own fake-quantized K cache."""
    quant = QuantSpec(k=KV_PRESETS[preset].k) if preset else QuantSpec()
    return measure(loaded, Condition(ROPE, quant, scales), ids, TARGETS).per_window


def row(cache: str, rotated: str, scales: str, *nll: list[float]) -> None:
    """One line of the table."""
    shown = (f"{mean:.4f} ({math.exp(mean):.3f})" for mean in (math.fsum(n) / len(n) for n in nll))
    print(f"| {cache} | {rotated} | {scales} | {' | '.join(shown)} |", flush=True)


def said(before: list[float], after: list[float]) -> str:
    """Gain in nats with its 95% interval, and whether it is one."""
    gain = paired_interval(before, after)
    verdict = "significant" if gain.excludes_zero else NO_GAIN
    return f"{gain.mean:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}] ({verdict})"


if __name__ == "__main__":
    main()
