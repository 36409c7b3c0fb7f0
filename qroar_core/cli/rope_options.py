"""The interpolation that options name: a method, a file of one, lists of factors, and the pairs that are tied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.cli.check_options import about, scales_file
from qroar_core.cli.parse import AUTO, longrope_file
from qroar_core.errors import BadSpec
from qroar_core.interpolations.registry import stretching
from qroar_core.interpolations.rope_file import is_rope_file, of_rope_file
from qroar_core.interpolations.tie import Tie, parse_ties, ties_text
from qroar_core.specs import RopeSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel


def rope_spec(options: dict[str, Any]) -> RopeSpec | None:
    """None when neither --rope nor --factor was given."""
    method, factor = options.get("rope"), options.get("factor")
    if method is not None and is_rope_file(method):
        return _rope_of_file(method, options)
    lists: dict[str, Any] = longrope_file(options.get("longrope_factors"))
    with about("--tie"):
        tie = _ties(options)
    if method is None and factor is None:
        if tie or options.get("tie") == AUTO:
            raise BadSpec(
                "tied pairs change an interpolation, and none is named",
                where="--tie",
                do="add --rope default for the checkpoint's own, or --rope yarn --factor 2",
            )
        if lists:
            raise BadSpec("factor lists need --rope longrope", where="--longrope-factors")
        return None
    if lists and method not in (None, "longrope"):
        raise BadSpec(f"--rope {method} takes no factor lists", where="--longrope-factors", do="drop it")
    if method is None:
        others = ", ".join(name for name, one in stretching().items() if name != "yarn" and not one.takes_lists)
        raise BadSpec(f"--factor {factor} needs a method", do=f"add --rope yarn (or {others})")
    if method not in ("default",) and factor is None:
        raise BadSpec(f"--rope {method} needs a factor", do="add --factor, for example --factor 2")
    with about("--rope default" if method == "default" else "--factor"):
        return RopeSpec(method=method, factor=factor if factor is not None else 1.0, tie=tie, **lists)


def require_fitting(options: dict[str, Any], rope: RopeSpec | None, loaded: LoadedModel) -> None:
    """Raises BadSpec, which names the file that said it, where this model cannot take the interpolation."""
    from qroar_core.interpolations.frequencies import rope_of

    if rope is None:
        return
    length = options.get("length") or loaded.geometry.original_context
    with of_rope_file(rope_file(options)), about_lists(options):
        rope_of(loaded, rope, length)


def rope_file(options: dict[str, Any]) -> str | None:
    """The file that `--rope` names, None where it names a method or is not given."""
    name = options.get("rope")
    return name if name is not None and is_rope_file(name) else None


@contextmanager
def about_lists(options: dict[str, Any]) -> Iterator[None]:
    """Name the file of --longrope-factors where a model refuses its lists."""
    try:
        yield
    except BadSpec as problem:
        path = options.get("longrope_factors")
        if not path or problem.where != "longrope":
            raise
        raise BadSpec(problem.what, where=f"--longrope-factors {path}", do=problem.do) from problem


def _rope_of_file(path: str, options: dict[str, Any]) -> RopeSpec:
    """The interpolation of `--rope FILE.json`; other options may repeat what the file says, and tie its pairs.

    Raises:
        BadSpec: the file, or an option that says something else.
    """
    from qroar_core.runs.file_kinds import interpolation_of

    spec, factor, tie = interpolation_of(path), options.get("factor"), options.get("tie")
    if factor is not None and factor != spec.factor:
        raise BadSpec(f"{path} has factor {spec.factor:g}, not {factor:g}", where="--factor", do="leave it out")
    if options.get("longrope_factors"):
        raise BadSpec(f"{path} sets the interpolation", where="--longrope-factors", do="leave one of the two out")
    if tie is None:
        return spec
    if spec.tie and (tie == AUTO or parse_ties(tie) != spec.tie):
        raise BadSpec(f"{path} ties {ties_text(spec.tie)} already", where="--tie", do="leave it out")
    with about("--tie"):
        return spec if spec.tie else replace(spec, tie=_ties(options))


def _ties(options: dict[str, Any]) -> tuple[Tie, ...]:
    """Groups named by `--tie`, else those without which the maps or offset of `--scales` would be another model's.

    Raises:
        BadSpec: `auto` where nothing is searched, or without maps, which alone make a tie pay.
    """
    text, file = options.get("tie"), options.get("scales")
    if text == AUTO:
        if "maps" not in options:
            raise BadSpec("groups are chosen before a search", do="name them, or search with --tie auto --maps")
        if not options["maps"]:
            raise BadSpec("a tie only makes room for maps", do="add --maps")
        return ()
    if text is None and file:
        content = scales_file("--scales", file)
        named = options.get("rope"), options.get("factor") or 1.0
        bound = content.maps or content.k_offset or content.polish
        if bound and named == (content.rope.get("method"), content.rope.get("factor")):
            from qroar_core.transforms.file import rope_from

            return rope_from(content.rope).tie
    return parse_ties(text or "")
