"""Every method of the search: the files of `methods`, found by themselves."""

from __future__ import annotations

from functools import cache

from qroar_core.members import members_of
from qroar_core.scale_search.search_method import SearchMethod
from qroar_core.specs import SEARCH_METHODS


@cache
def search_methods() -> dict[str, SearchMethod]:
    """Name, as in `SearchSpec.method` -> method, in the order of menus."""
    return members_of("qroar_core.scale_search.methods", SEARCH_METHODS, "METHOD")
