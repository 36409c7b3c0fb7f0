"""Stages of the product, each ended in its middle: cancelled at a step, or by an error at a step or inside a pass."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import Cancelled
from qroar_core.evaluation import run as evaluate
from qroar_core.exporters.writers import writer_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, Step
from qroar_core.remedies import run as remedies
from qroar_core.retrieval import run as retrieval
from qroar_core.rope_search import run as rope_search
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    DiagnosisSpec,
    EvaluationSpec,
    QuantizerSpec,
    QuantSpec,
    RetrievalSpec,
    RopeSearchSpec,
    RopeSpec,
    SearchSpec,
    WeightQuantSpec,
)
from qroar_core.transforms.scales import Scales

LENGTH, SHORT, CHUNK = 64, 32, 32
STEPS, CALLS = 24, 600  # a stage is ended at one of its first steps, or at one of its first calls of a module
QUANTS = (
    QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4)),
    QuantSpec(k=QuantizerSpec(4, rotation="hadamard"), v=QuantizerSpec(4, rotation="hadamard")),
    QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4), weights=WeightQuantSpec(4)),
)
SEARCHES: tuple[dict[str, Any], ...] = ({}, {"angles": True, "maps": True}, {"value_maps": True}, {"method": "optuna"})


class Planted(Exception):
    """The error that a stage is ended by; no code of the product knows it."""


def setting_of(rope: RopeSpec, rng: random.Random) -> Setting:
    """A small setting with quantizers drawn from those that touch weights, caches and axes."""
    search_spec = SearchSpec(
        bands=BandSpec(4),
        length=LENGTH,
        windows=2,
        steps=6,
        trials=6,
        query_rows=16,
        fewer=True,
        **rng.choice(SEARCHES),
    )
    return Setting(
        rope,
        rng.choice(QUANTS),
        DiagnosisSpec(length=LENGTH, short_length=SHORT, windows=2, bands=BandSpec(4), query_rows=8, chunk=CHUNK),
        search_spec,
        EvaluationSpec(lengths=(SHORT, LENGTH), windows=2, chunk=CHUNK, fewer=True),
    )


def _exported(loaded: LoadedModel, setting: Setting, scales: Scales | None, on_step: OnStep) -> None:
    with tempfile.TemporaryDirectory() as home:
        writer_of("hf")(loaded, replace(setting.rope, tie=()), None, Path(home) / "out", command="", on_step=on_step)


Stage = Callable[[LoadedModel, Setting, Scales, OnStep], object]
STAGES: dict[str, Stage] = {
    "diagnosis": lambda m, s, x, f: diagnose.run(m, s, s.texts()["calibration"], f, scales=x),
    "search": lambda m, s, _, f: search.run(m, s, s.texts(), None, f),
    "evaluation": lambda m, s, x, f: evaluate.run(m, s, x, None, s.texts()["heldout"], f),
    "comparison of remedies": lambda m, s, _, f: remedies.run(
        m, s, ComparisonSpec(search=s.search, windows=2, calibration_windows=2, chunk=CHUNK, fewer=True), s.texts(), f
    ),
    "search of interpolations": lambda m, s, _, f: rope_search.run(
        m, s, RopeSearchSpec(length=LENGTH, short_length=SHORT, windows=1, heldout_windows=2, fewer=True), s.texts(), f
    ),
    "retrieval": lambda m, s, x, f: retrieval.run(
        m, s, x, RetrievalSpec(lengths=(256,), trials=1, depths=(0.5,)), s.texts()["heldout"], f
    ),
    "export": _exported,
}


def cancelled(name: str, loaded: LoadedModel, setting: Setting, scales: Scales, rng: random.Random) -> bool:
    """Cancel a stage at a random step; False where it came to its end before."""
    return _ended(name, loaded, setting, scales, _raising(Cancelled("endurance"), rng.randrange(1, STEPS)))


def broken(name: str, loaded: LoadedModel, setting: Setting, scales: Scales, rng: random.Random) -> bool:
    """End a stage by an error, at a random step or inside a random module; False where it came to its end before."""
    if rng.random() < 0.5:
        return _ended(name, loaded, setting, scales, _raising(Planted("at a step"), rng.randrange(1, STEPS)))
    with _failing_module(rng.randrange(1, CALLS)):
        return _ended(name, loaded, setting, scales, lambda step: None)


def _ended(name: str, loaded: LoadedModel, setting: Setting, scales: Scales, on_step: OnStep) -> bool:
    try:
        STAGES[name](loaded, setting, scales, on_step)
    except (Cancelled, Planted):
        return True
    return False


def _raising(fault: Exception, at: int) -> OnStep:
    left = [at]

    def on_step(step: Step) -> None:
        left[0] -= 1
        if not left[0]:
            raise fault

    return on_step


@contextmanager
def _failing_module(at: int) -> Iterator[None]:
    """Inside, the `at`-th call of any module fails, as one does that runs out of memory."""
    left = [at]

    def fail(module: torch.nn.Module, args: object) -> None:
        left[0] -= 1
        if not left[0]:
            raise Planted(f"in {type(module).__name__}")

    hook = register_module_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()
