"""How a registry finds its members by itself: one file of a folder is one member, and its name is the member's;
where a member takes several files, one folder.

A name is known without importing anything; the members are imported when somebody asks what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any


def names_in(folder: Path) -> tuple[str, ...]:
    """Names of the files of `folder`, sorted."""
    return tuple(sorted(module.name for module in iter_modules([str(folder)])))


def folders_in(folder: Path) -> tuple[str, ...]:
    """Names of the packages of `folder`, sorted, where a member is a folder of files."""
    return tuple(sorted(module.name for module in iter_modules([str(folder)]) if module.ispkg))


def members_of(package: str, names: Sequence[str], attribute: str) -> dict[str, Any]:
    """`attribute` of each module of the package, by module name, in the order of its `place`."""
    found = {name: getattr(import_module(f"{package}.{name}"), attribute) for name in names}
    return dict(sorted(found.items(), key=lambda pair: (pair[1].place, pair[0])))
