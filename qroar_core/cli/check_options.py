"""Option values that no model could make right, refused before any model is read, by the name of the option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadScales, BadSpec
from qroar_core.models.writable import require_writable_folder
from qroar_core.specs import BANDS, BandSpec, EvaluationSpec, SearchSpec
from qroar_core.specs.outliers import outlier_parameter
from qroar_core.transforms.registry import switches, with_needed

if TYPE_CHECKING:  # pydantic is not for every start
    from qroar_core.transforms.result import ScalesFile

SCALES = ("scales", "rotation_scales")  # options that name a scales file; `run`'s --rotation-scales is a switch
# options that are fields of the search's spec
SEARCH_FIELDS = ("mode", "objective", "method", "sampler", "trials", "error_metric", "l2_penalty")
SEEDS = 1 << 32  # Optuna's samplers take no others


def check_specs(
    options: dict[str, Any], lengths: tuple[int, ...], bounds: tuple[tuple[float, float], ...] | None
) -> None:
    """Make the specs of the search and the evaluation with whatever the model does not decide.

    Raises:
        BadSpec: values that do not go together. BadScales: a scales file that cannot be read.
    """
    seed = options.get("seed", 0)
    if not 0 <= seed < SEEDS:
        raise BadSpec(f"must lie in 0 to {SEEDS - 1}, got {seed}", where="--seed", do="give another number")
    given = {name: options[name] for name in SEARCH_FIELDS if name != "trials" and options.get(name) is not None}
    # fewer bounds than usual may be one for every pair the model has: that is known once it is read
    count = options.get("bands") or (min(len(bounds), BANDS) if bounds else BANDS)
    with about("--l2-penalty"):  # a list of words was checked before, and a clash names its option itself
        search = SearchSpec(bands=BandSpec(count), **given).of_kinds(kinds_of(options))
    if search.kinds:
        from qroar_core.scale_search.search_objectives import require_gradient

        require_gradient(search)
    with about("--bounds"):
        replace(search, bounds=bounds)
    with about("--stride"):
        EvaluationSpec(lengths=lengths, targets=options.get("targets"), stride=options.get("stride"))
    with about("--outlier-parameter"):
        outlier_parameter(options.get("outlier_rule") or "iqr", options.get("outlier_parameter"))
    for name in SCALES:
        if isinstance(options.get(name), str):
            scales_file(f"--{name.replace('_', '-')}", options[name])


def kinds_of(options: dict[str, Any]) -> set[str]:
    """Kinds of transform that are asked for; one that needs another brings it along."""
    return with_needed([name for name in switches() if options.get(name)])


def storage_of(options: dict[str, Any]) -> Path | None:
    """The file of --storage."""
    return Path(options["storage"]).expanduser() if options.get("storage") else None


def check_workers(options: dict[str, Any]) -> None:
    """Refuse, before any model is read, what cannot be shared.

    Raises:
        BadSpec: names the option.
    """
    if options.get("workers", 1) > 1 and not options.get("storage"):
        raise BadSpec("needs a file to share", where="--workers", do="add --storage FILE")
    if (storage := storage_of(options)) is not None:
        require_writable_folder(storage.absolute().parent)
        from qroar_core.scale_search.search_objectives import require_shareable

        require_shareable(SearchSpec(method=options["method"], objective=options["objective"]))


def scales_file(option: str, path: str) -> ScalesFile:
    """The content of a file of scales, before there is a model to hold it against.

    Raises:
        BadScales: names the option.
    """
    from qroar_core.runs.file_kinds import other_kind_named
    from qroar_core.transforms.result import ScalesFile

    try:
        with other_kind_named(Path(path), "a file of scales", BadScales):
            return ScalesFile.from_file(Path(path), BadScales)
    except BadScales as error:
        raise BadScales(error.what, where=f"{option} {path}", do=error.do) from error


@contextmanager
def about(option: str) -> Iterator[None]:
    """Name the option in a BadSpec that does not say where."""
    try:
        yield
    except BadSpec as error:
        raise BadSpec(error.what, where=error.where or option, do=error.do or "give another value") from error
