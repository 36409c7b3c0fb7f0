"""A spec as the plain values that files, keys and names of files are made of."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

YOUNGER = {"tie": ()}  # fields that older files lack, and what they mean where they are left out


def written(spec: Any) -> dict[str, Any]:
    """`dataclasses.asdict`, without a younger field that says nothing.

    So a setting without ties has the keys, the digests and the manifest that it had before there were any.
    """
    return asdict(spec, dict_factory=_without_younger)


def _without_younger(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if name not in YOUNGER or value != YOUNGER[name]}
