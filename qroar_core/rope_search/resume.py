"""A search of interpolations that goes on where it was stopped: only under what its trials were measured under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna

from qroar_core.errors import BadOutput
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Windows
from qroar_core.rope_search.result import HeldOutNLL, RopeStudy, RopeTrials, TriedRope
from qroar_core.rope_search.space import RopeSpace
from qroar_core.setting import Setting
from qroar_core.specs.written import written


def measured_under(
    loaded: LoadedModel, setting: Setting, space: RopeSpace, seed: int, read: Mapping[str, Windows]
) -> dict[str, str]:
    """Checksums of all that decides what a search measures and proposes, by the name a person would look for.

    How many interpolations are tried is not among it: with more of them a search goes on past its old end.

    Args:
        read: the windows of text, by what they are called.
    """
    quantizer = {name: part for name, part in written(setting.quant).items() if name != "name"}
    deciding: dict[str, Any] = {
        "dtype": str(loaded.dtype),  # first: weights of another dtype have another checksum too
        "model": loaded.checksum,
        "interpolation": written(setting.rope),
        "quantizer": quantizer,
        **{f"length of {name} windows": windows.ids.shape[1] for name, windows in read.items()},
        **{f"number of {name} windows": len(windows) for name, windows in read.items()},
        "seed": seed,
        **{f"text of {name} windows": windows.digest for name, windows in read.items()},
        "space of interpolations": {
            "ranges": {name: [asdict(one) for one in ranges] for name, ranges in space.ranges.items()},
            "still": {name: space.most_still(name) for name in space.ranges},
            "absent": dict(space.absent),
        },
        "version of Optuna": optuna.__version__,
    }
    return {name: _checksum(value) for name, value in deciding.items()}


def require_same(trials: RopeTrials, under: Mapping[str, str]) -> None:
    """Raises BadOutput, which names what differs, unless the trials were measured under the same."""
    require_known(trials)
    noted = trials.measured_under
    apart = [name for name in (*under, *noted) if noted.get(name) != under.get(name)]
    if apart:
        raise BadOutput(
            f"the trials were measured with another {apart[0]}",
            where="resume",
            do="give the same options, or start anew",
        )


def require_known(trials: RopeTrials) -> None:
    """Raises BadOutput where nobody noted what the trials were measured under."""
    if not trials.measured_under:
        raise BadOutput(
            "the trials are of an older version, which did not note what they were measured under",
            where="resume",
            do="start anew",
        )


def everything_measured(
    tried: Mapping[bool, Sequence[TriedRope]],
    held: Mapping[tuple[RopeSpec, bool, bool], list[float]],
    before: RopeTrials | None,
    under: dict[str, str],
    seconds: float,
) -> RopeTrials:
    """Everything measured by now, and what an earlier search measured that this one has not come to yet.

    Args:
        tried: by condition. held: NLL of held-out windows by interpolation, condition, and whether they are short.
        before: what the earlier search left. under: what all of it is measured under.
    """
    merged = {quantized: list(trials) for quantized, trials in tried.items()}
    for study in before.studies if before else ():
        here = {one.spec for one in merged[study.quantized]}
        merged[study.quantized] += [one for one in study.trials if one.spec not in here]
    return RopeTrials(
        studies=studies_of(merged),
        heldout=[
            HeldOutNLL(rope=written(rope), quantized=quantized, short=short, nll=nll)
            for (rope, quantized, short), nll in held.items()
        ],
        measured_under=under,
        seconds=seconds,
    )


def studies_of(tried: Mapping[bool, Sequence[TriedRope]]) -> list[RopeStudy]:
    """One study for each condition in which something was tried."""
    return [RopeStudy(quantized=quantized, trials=list(trials)) for quantized, trials in tried.items() if trials]


def _checksum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
