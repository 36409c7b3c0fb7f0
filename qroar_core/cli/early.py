"""Option values that no model could make right, refused before any model is read, by the name of the option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qroar_core.errors import BadScales, BadSpec
from qroar_core.specs import BANDS, BandSpec, EvaluationSpec, SearchSpec
from qroar_core.specs.outliers import outlier_parameter

SCALES = ("scales", "rotation_scales")  # options that name a scales file; `run`'s --rotation-scales is a switch
SEEDS = 1 << 32  # Optuna's samplers take no others


def check_specs(options: dict[str, Any], lengths: tuple[int, ...],
                bounds: tuple[tuple[float, float], ...] | None) -> None:  # fmt: skip
    """Make the specs of the search and the evaluation with whatever the model does not decide.

    Raises:
        BadSpec: values that do not go together. BadScales: a scales file that cannot be read.
    """
    seed = options.get("seed", 0)
    if not 0 <= seed < SEEDS:
        raise BadSpec(f"must lie in 0 to {SEEDS - 1}, got {seed}", where="--seed", do="give another number")
    given = {name: options[name] for name in ("mode", "angles", "objective", "judge", "method", "sampler", "shrink")
             if options.get(name) is not None}  # fmt: skip
    # fewer bounds than usual may be one for every pair the model has: that is known once it is read
    count = options.get("bands") or (min(len(bounds), BANDS) if bounds else BANDS)
    with about("--shrink"):  # a list of words was checked before, and a clash names its option itself
        search = SearchSpec(bands=BandSpec(count), **given)
    with about("--bounds"):
        replace(search, bounds=bounds)
    with about("--stride"):
        EvaluationSpec(lengths=lengths, targets=options.get("targets"), stride=options.get("stride"))
    with about("--outlier-parameter"):
        outlier_parameter(options.get("outlier_rule") or "iqr", options.get("outlier_parameter"))
    for name in SCALES:
        if isinstance(options.get(name), str):
            _check_scales(f"--{name.replace('_', '-')}", Path(options[name]))


def _check_scales(option: str, path: Path) -> None:
    from qroar_core.results.scales import ScalesFile

    try:
        ScalesFile.from_file(path, BadScales)
    except BadScales as error:
        raise BadScales(error.what, where=f"{option} {path}", do=error.do) from error


@contextmanager
def about(option: str) -> Iterator[None]:
    """Name the option in a BadSpec that does not say where."""
    try:
        yield
    except BadSpec as error:
        raise BadSpec(error.what, where=error.where or option, do=error.do) from error
