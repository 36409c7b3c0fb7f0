"""Whether and how a search's candidates are shared between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.progress import OnStep
from qroar_core.searching.frame import Frame
from qroar_core.searching.proposals import Tries, in_turn
from qroar_core.searching.spread import Spread
from qroar_core.specs import SearchSpec


def tries_of(storage: Path | None, frame: Frame, bounds: Tensor, on_step: OnStep) -> Callable[[str], Tries]:
    """How each phase of the search evaluates its candidates: in this process, or shared through `storage`.

    Raises:
        BadSpec: a search whose candidates are not known beforehand.
    """
    if storage is None:
        return lambda phase: in_turn
    require_shareable(frame.spec)
    return Spread(storage, deciding(frame, bounds), on_step).phase


def require_shareable(spec: SearchSpec) -> None:
    """Raises BadSpec where each candidate follows from the one before, so that processes have nothing to share."""
    if spec.method != "optuna":
        raise BadSpec(f"the {spec.method} method goes step by step and cannot be shared", where="--storage",
                      do="add --method optuna")  # fmt: skip
    if spec.objective == "kl":
        raise BadSpec("the kl objective goes step by step and cannot be shared", where="--storage",
                      do="choose --objective cached or full")  # fmt: skip


def deciding(frame: Frame, bounds: Tensor) -> dict[str, Any]:
    """Everything that decides a shared search's numbers, by the name a person would look for."""
    import optuna

    quant = {name: part for name, part in asdict(frame.quant).items() if name != "name"}
    texts = {"calibration": frame.calibration().ids}
    if frame.spec.objective == "full":
        texts["development"] = frame.development().ids
    return {
        "model": frame.loaded.checksum,
        "dtype": str(frame.loaded.dtype),
        "rope": asdict(frame.rope),
        "quantizer": quant,
        "text": {split: hashlib.sha256(ids.numpy().tobytes()).hexdigest() for split, ids in texts.items()},
        **{f"search option ({name})": value for name, value in asdict(frame.spec).items() if name != "fewer"},
        "diagnosis": bounds.tolist(),
        "version of Optuna": optuna.__version__ if frame.spec.sampler == "tpe" else "",
    }
