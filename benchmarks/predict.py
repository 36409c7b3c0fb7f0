"""Do the diagnostics predict what rounding a band alone costs? One table a setting, and the estimate's own check.

The estimate by layer and band (models/sensitivity) is compared with brute force on the demo: every layer's every band
rounded alone, its KL read from a forward pass of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.checkpoint import loaded_as
from qroar_core.diagnostics import run as diagnose
from qroar_core.evidence.prediction import run as predict
from qroar_core.evidence.prediction.result import Prediction, Rank
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import divergence
from qroar_core.models.text import split, windows
from qroar_core.models.window_losses import hidden_states
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, PredictionSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.statistics.correlation import spearman


@dataclass(frozen=True, slots=True)
class Case:
    """One setting."""

    name: str
    model: str
    rope: RopeSpec
    bits: int
    bands: int
    text: str
    spec: PredictionSpec
    brute: bool = False  # also check the estimate by brute force


DEMO = PredictionSpec(length=1024, windows=16)
ON_DEMO = (
    Case("demo, YaRN x4, K int4, 8 bands", "demo", RopeSpec("yarn", 4.0), 4, 8, "messages", DEMO, brute=True),
    Case("demo, YaRN x4, K int3, 8 bands", "demo", RopeSpec("yarn", 4.0), 3, 8, "messages", DEMO),
    Case("demo, YaRN x4, K int3, 32 bands", "demo", RopeSpec("yarn", 4.0), 3, 32, "messages", DEMO),
)
ON_SMOLLM2 = (
    Case(
        "SmolLM2, YaRN x2, K int4, 16 bands",
        "smollm2",
        RopeSpec("yarn", 2.0),
        4,
        16,
        "technical",
        PredictionSpec(length=2048, windows=4),
    ),
)


def main(cases: Sequence[Case]) -> None:
    """Every setting of one model."""
    for case in cases:
        measured(loaded_as(case.model), case)


def measured(loaded: LoadedModel, case: Case) -> None:
    """Print one setting's sentences and tables."""
    quant = QuantSpec(k=QuantizerSpec(case.bits))
    asked = DiagnosisSpec(length=case.spec.length, bands=BandSpec(case.bands))
    diagnosis = diagnose.run(loaded, Setting(case.rope, quant, diagnosis=asked), split("calibration", case.text))
    result = predict.run(loaded, Setting(case.rope, quant), case.spec, split("heldout", case.text), diagnosis)
    print(
        f"### {case.name}\n\n{result.text}, `{case.text}`; the map: {result.kl_windows} windows of "
        f"{result.kl_length} tokens.\n\n{result.headline}.\n"
    )
    print("\n".join(f"- {line}." for line in result.findings))
    print("\n| tells beforehand? | band by band | by layer and band |\n|---|---|---|")
    for one in result.diagnostics:
        print(f"| {_cell(one.words)}{' (baseline)' * one.baseline} | {_rank(one.by_band)} | {_rank(one.by_cell)} |")
    _costs(result)
    if case.brute:
        _check(loaded, case, quant, predict.parts_of(loaded.geometry, tuple(b.pairs for b in result.bands if b.pairs)))


def _costs(result: Prediction) -> None:
    kinds = [d for d in result.diagnostics if d.name in ("interpolation_pressure", "tail_k", "logit_noise", "k_absmax")]
    print(f"\n| rounded | cost, nats per token | {' | '.join(_cell(f'{d.words}, {d.unit}') for d in kinds)} |")
    print(f"|---|---|{'---|' * len(kinds)}")
    for b, part in enumerate([*result.parts, result.whole]):
        name = part.name if part.pairs is None else f"{part.name} (pairs {part.pairs[0]}-{part.pairs[1]})"
        values = [_value(d.bands[b]) if part.pairs is not None else "" for d in kinds]
        print(f"| {name} | {part.nll:+.4f} [{part.low:+.4f}, {part.high:+.4f}] | {' | '.join(values)} |")
    print(flush=True)


def _check(loaded: LoadedModel, case: Case, quant: QuantSpec, parts: torch.Tensor) -> None:
    """The estimated map against one forward pass a cell, on the map's own windows."""
    spec, length = case.spec, case.spec.length or 0
    ids = windows(loaded.tokenizer, split("heldout", case.text), length, spec.windows, spec.seed).ids
    ids = ids[: spec.grid_windows, : spec.grid_length]
    reference = hidden_states(loaded, Condition(case.rope), ids, ids.shape[1] - 1)
    estimated = predict.second_order_kl(loaded, Condition(case.rope, quant), ids, parts, seed=spec.seed)
    brute = []
    for layer in range(loaded.geometry.n_layers):
        for band in range(case.bands):
            only = torch.zeros_like(parts, dtype=torch.bool)
            only[layer] = parts[layer] == band
            seen = hidden_states(loaded, Condition(case.rope, quant, quantized_channels=only), ids, ids.shape[1] - 1)
            brute.append(float(divergence(loaded, reference, seen).kl.double().mean()))
    guess = estimated[:, : case.bands].flatten().tolist()
    found = spearman(guess, brute)
    ratio = sorted(a / b for a, b in zip(guess, brute, strict=True))
    if found is not None:
        print(
            f"The estimate against brute force, {len(brute)} cells: rho {found.rho:.3f} [{found.low:.3f}, "
            f"{found.high:.3f}]; {statistics.median(ratio):.2f} times the KL of a forward pass (median; "
            f"{ratio[0]:.2f} to {ratio[-1]:.2f}).\n",
            flush=True,
        )


def _cell(words: str) -> str:
    """Words for a table's cell, whose bars they may hold."""
    return words.replace("|", "\\|")


def _rank(found: Rank | None) -> str:
    return "cannot be ranked" if found is None else f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
