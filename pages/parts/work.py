"""From a button to a background job and back to its result.

Every job's key says what it computes, so that a reload, another page or a second tab finds it again.
What runs in the worker never calls Streamlit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.choice import Choice
from pages.parts.paths import model_source
from pages.parts.session import load_key, manager
from pages.parts.words import seconds_words
from qroar_core import diagnose, evaluate, export, load, search
from qroar_core.jobs import Manager, Snapshot
from qroar_core.maths.rescale import Scales
from qroar_core.models import smollm2
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import choose_device
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.text import SPLITS, split
from qroar_core.progress import OnStep, Step, ignore, part
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting

POLL = 1  # seconds between looks at a running job


def key_of(stage: str, loaded: LoadedModel, setting: Setting, *more: Hashable) -> tuple:
    """What `stage` would compute for this model and setting on the embedded texts."""
    who = (loaded.fingerprint, str(loaded.device), str(loaded.dtype), setting.rope, setting.quant)
    spec = {"diagnose": (setting.diagnosis,), "search": (setting.search, setting.diagnosis),
            "evaluate": (setting.evaluation,)}.get(stage, ())  # fmt: skip
    return (stage, *who, *spec, *more)


def start_load(picked: Choice) -> None:
    """Load the chosen model; the one before is let go once the new one is known to be readable.

    Raises:
        BadSpec: a device this machine does not have. OutsideRoots: a path the dashboard may not touch.
    """
    model_source(picked.model)
    device = str(choose_device(picked.device))
    manager().submit(load_key(picked), _load, manager(), picked, label=f"Load {picked.model}", device=device)


def _load(jobs: Manager, picked: Choice, on_step: OnStep = ignore) -> LoadedModel:
    def report(step: Step) -> None:
        on_step(step)
        if step.stage == "load" and step.done >= 1:  # found and of a known family: now weights are read
            jobs.release("load", but=load_key(picked))

    if picked.model == "smollm2":
        smollm2.fetch(part(on_step, 0, 1, 4))
    return load.run(picked.model, device=picked.device, dtype=picked.dtype, on_step=report)


def start_diagnosis(loaded: LoadedModel, setting: Setting) -> tuple:
    """Queue the diagnosis unless it is there already; returns its key."""
    key = key_of("diagnose", loaded, setting)
    manager().submit(key, _diagnose, loaded, setting, label=f"Diagnose {loaded.name}", device=str(loaded.device))
    return key


def _diagnose(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Diagnosis:
    return diagnose.run(loaded, setting.rope, setting.quant, setting.diagnosis, split("calibration"), on_step=on_step)


def start_search(loaded: LoadedModel, setting: Setting) -> tuple:
    """Queue the search behind the diagnosis its bounds come from; returns its key."""
    diagnosis = start_diagnosis(loaded, setting)
    key = key_of("search", loaded, setting)
    label, device = f"Tune {loaded.name}", str(loaded.device)
    manager().submit(key, _search, manager(), diagnosis, loaded, setting, label=label, device=device)
    return key


def _search(jobs: Manager, diagnosis: tuple, loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Any:
    texts = {name: split(name) for name in SPLITS}
    found = jobs.result(diagnosis)
    return search.run(loaded, setting.rope, setting.quant, setting.search, texts, found, on_step=on_step)


def start_evaluation(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """Queue the evaluation of the tuned scales, or of none; returns its key."""
    key = evaluation_key(loaded, setting, outcome)
    label, device = f"Evaluate {loaded.name}", str(loaded.device)
    manager().submit(key, _evaluate, loaded, setting, outcome, label=label, device=device)
    return key


def evaluation_key(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """The scales belong to the key by the search they came from."""
    return key_of("evaluate", loaded, setting, setting.search if outcome else None)


def _evaluate(loaded: LoadedModel, setting: Setting, outcome: Any, on_step: OnStep) -> Any:
    tuned, smooth = (outcome.found, outcome.smooth) if outcome else (None, None)
    return evaluate.run(loaded, setting.rope, setting.quant, tuned, smooth, setting.evaluation, split("heldout"),
                        on_step=on_step)  # fmt: skip


def start_export(loaded: LoadedModel, setting: Setting, scales: Scales | None, folder: Path) -> tuple:
    """Queue writing the checkpoint folder; returns its key. The same folder can be asked again."""
    key = ("export", loaded.fingerprint, str(folder))
    manager().submit(
        key, export.run, loaded, setting.rope, scales, folder,
        label=f"Export {loaded.name}", device=str(loaded.device), again=True,
    )  # fmt: skip
    return key


def start_patch(loaded: LoadedModel, scales: Scales | None) -> tuple:
    """Queue applying `scales` to the loaded weights, or undoing what is applied; returns the key."""
    key, device = ("patch", loaded.fingerprint), str(loaded.device)
    manager().submit(key, _patch, loaded, scales, label=f"Change {loaded.name}'s weights", device=device, again=True)
    return key


def _patch(loaded: LoadedModel, scales: Scales | None, on_step: OnStep) -> None:
    on_step(Step("patch", 0, 1, "swap weights"))
    undo_scales(loaded) if scales is None else apply_scales(loaded, scales)


def watch(key: Hashable, live: Callable[[tuple], None] | None = None) -> Any:
    """The finished job's result, else None.

    While the job is queued or running this draws its progress, a Cancel button and `live(details)`, and
    looks again by itself until the job ends; then the whole page runs once more. A failure is one line.
    """
    now = manager().snapshot(key)
    if now is None:
        return None
    if now.active:
        st.fragment(_progress, run_every=POLL)(key, live)
    elif now.state == "failed":
        st.error(now.error, icon=":material/error:")
    elif now.state == "cancelled":
        st.info(f"{now.label}: cancelled. Nothing half-done was kept; start again whenever you like.")
    return manager().result(key)


def running(key: Hashable) -> bool:
    """Is this job queued or running?"""
    now = manager().snapshot(key)
    return now is not None and now.active


def _progress(key: Hashable, live: Callable[[tuple], None] | None) -> None:
    now = manager().snapshot(key)
    if now is None or not now.active:
        st.rerun()
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    bar.progress(now.step.fraction if now.step else 0.0, text=_line(now))
    stop.button(
        "Cancel",
        key=f"cancel {now.label}",
        on_click=manager().cancel,
        args=(key,),
        disabled=now.cancelling,
        width="stretch",
    )
    if live is not None and now.details:
        live(now.details)


def _line(now: Snapshot) -> str:
    if now.state == "queued":
        return f"{now.label}: waiting for “{now.behind}” to finish" if now.behind else f"{now.label}: about to start"
    if now.cancelling:
        return f"{now.label}: stopping at the next step …"
    what = f": {now.step.what}" if now.step and now.step.what else ""
    left = f", about {seconds_words(now.seconds_left)} left in this pass" if now.seconds_left is not None else ""
    return f"{now.label}{what} · {seconds_words(now.seconds)}{left}"
