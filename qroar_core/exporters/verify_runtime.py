"""An export run by one of the runtimes that read it, in a process of its own, against what transformers makes of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.exporters.check import Check
from qroar_core.exporters.forward_pass import SCORED
from qroar_core.exporters.install_runtime import installing
from qroar_core.exporters.readers import readers, runnable
from qroar_core.models.runtimes.run import Job, ask, is_installed, place_of


def require_runtime(name: str, format: str) -> None:
    """Refuse a runtime that cannot be asked about an export of this format.

    Raises:
        BadSpec: not known, not one that is run from here, no reader of this format, or not installed.
    """
    if name not in runnable():
        raise BadSpec(f"unknown runtime {name!r}", where="--runtime", do=f"choose one of {', '.join(runnable())}")
    reader = readers()[name]
    if format not in reader.formats:
        others = ", ".join(reader.formats)
        raise BadSpec(f"{reader.label} does not read {format}", where="--runtime", do=f"export as one of {others}")
    if not is_installed(name, reader.module, here=reader.here):
        raise BadSpec(f"{reader.name} is not installed", where="--runtime", do=installing(name, reader))


def as_transformers_rounds(folder: Path, ids: Tensor) -> Tensor | None:
    """NLL (1, SCORED) of a folder with scales of an fp8 K/V cache, K and V rounded by them as transformers does.

    None where transformers of this environment refuses it, without compressed-tensors for one.
    """
    _, (answer,) = ask("transformers_worker", [Job(str(folder), ids[0].tolist(), ids.shape[1] - SCORED)], None)
    return None if answer.error else -torch.tensor(answer.values, dtype=torch.float64)[None]


def verify_runtime(name: str, folder: Path, ids: Tensor, wanted: Tensor, native: int = 0) -> Check:
    """What a runtime computes of the folder, on the last SCORED tokens of `ids`.

    Args:
        ids: int64 (1, tokens).
        wanted: NLL in nats that transformers of this environment gives of the folder, (1, SCORED).
        native: the window that the model was trained for, tokens.
    """
    reader, place = readers()[name], place_of(name)
    there = place if place.is_dir() else None
    version, (answer,) = ask(reader.worker, [Job(str(folder), ids[0].tolist(), ids.shape[1] - SCORED)], there)
    question = f"log-probabilities in {reader.label} {version}"
    if answer.error:
        return Check(question, f"it refuses the folder: {answer.error[:160]}", False, "see what it does not read above")
    apart = (torch.tensor(answer.values).double() + wanted[0].double()).abs()
    mean, largest = float(apart.mean()), float(apart.max())
    where = "" if ids.shape[1] >= native + SCORED else " within the native window"
    same = mean <= reader.bound  # of no number: not
    words = f"mean |d ln p| {mean:.2e}, largest {largest:.2e} nats over {SCORED} tokens{where}"
    return Check(question, words, same, "see what this runtime does not do, or serve it elsewhere")
