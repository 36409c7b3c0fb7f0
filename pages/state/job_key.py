"""What a job computes, as the key it is found by, together with the type of what it returns."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Found = TypeVar("Found", covariant=True)


class JobKey(tuple[Hashable, ...], Generic[Found]):
    """A plain tuple to all who compare, hash or read it; `Found` is for those who ask for the job's result."""

    __slots__ = ()
