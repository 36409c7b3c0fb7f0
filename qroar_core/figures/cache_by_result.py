"""Remember what was drawn from a result: a page is run again at every click, its result stays the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


def once(make: Callable[..., T]) -> Callable[..., T]:
    """`make(result, *rest)`, called once for each `result` and hashable `rest`, and forgotten with the result.

    Results are frozen, so the object itself is the key. What comes back is shared: leave it as it is.
    """
    known: dict[tuple[Hashable, ...], T] = {}

    @wraps(make)
    def remembered(result: Any, *rest: Hashable) -> T:
        key = (id(result), *rest)
        if key not in known:
            known[key] = make(result, *rest)
            weakref.finalize(result, known.pop, key, None).atexit = False
        return known[key]

    return remembered
