"""Every objective of the search, the files of `objectives`, found by themselves; and what goes with which method."""

from __future__ import annotations

from functools import cache

from qroar_core.errors import BadSpec
from qroar_core.members import members_of
from qroar_core.scale_search.objective import Objective
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.specs import OBJECTIVES, SearchSpec
from qroar_core.transforms.registry import flag, kinds, switches


@cache
def objectives() -> dict[str, Objective]:
    """Name, as in `SearchSpec.objective` -> objective, in the order of menus."""
    return members_of("qroar_core.scale_search.objectives", OBJECTIVES, "OBJECTIVE")


def reads(spec: SearchSpec, field: str) -> bool:
    """True where a field that not every search reads is read under this method and objective."""
    return field in search_methods()[spec.method].reads or field in objectives()[spec.objective].reads


def has_gradient(method: str, objective: str) -> bool:
    """True where what only a gradient finds can be searched too, as the angles of pairs."""
    return search_methods()[method].gradient and objectives()[objective].gradient


def require_gradient(spec: SearchSpec) -> None:
    """Raises BadSpec where a kind that only a gradient finds is asked for under a method or objective without one."""
    for name in spec.kinds:
        if switches()[name].by_gradient and not has_gradient(spec.method, spec.objective):
            able = " or ".join(name for name, method in search_methods().items() if method.gradient)
            unable = " and ".join(name for name, objective in objectives().items() if not objective.gradient)
            raise BadSpec(
                f"gradients alone search {kinds()[name].label}",
                where=flag(name),
                do=f"take --method {able} and an objective other than {unable}",
            )


def shareable(spec: SearchSpec) -> bool:
    """True where no candidate follows from the one before, so that processes can share them, and a later one go on."""
    return search_methods()[spec.method].independent and objectives()[spec.objective].independent


def require_shareable(spec: SearchSpec) -> None:
    """Raises BadSpec where each candidate follows from the one before, so that processes have nothing to share."""
    for kind, asked, known, do in (
        ("method", spec.method, search_methods(), "add --method"),
        ("objective", spec.objective, objectives(), "choose --objective"),
    ):
        if not known[asked].independent:
            able = " or ".join(name for name, one in known.items() if one.independent)
            raise BadSpec(
                f"the {asked} {kind} goes step by step and cannot be shared", where="--storage", do=f"{do} {able}"
            )
