"""Remedies that are searches of this project: what each asks of the search, and which models it does not go with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qroar_core.errors import BadSpec
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_objectives import require_gradient
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, SearchSpec


def of_pairs(search: SearchSpec, pairs: int, **also: Any) -> SearchSpec:
    """The same search with a band and an angle for each of `pairs` RoPE pairs; bounds by hand are of other bands."""
    return replace(search.without_maps(angles=True), bands=BandSpec(pairs), bounds=None, **also)


def why_no_search(loaded: LoadedModel, setting: Setting) -> str:
    """Why a search under this setting is refused, or could repair nothing; empty where it may."""
    try:
        require_gradient(setting.search)
        problem = SearchProblem.of(loaded, setting, {})
    except BadSpec as refusal:
        return refusal.what
    return problem.verdict.reason.rstrip(".") if problem.verdict.acts == "no" else ""
