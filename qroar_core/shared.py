"""What several pieces of work have in common, made once, with a count that shows it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The things asked for last, by key; what is not there is made. One thread at a time.

    Args:
        most: so many are kept. The oldest goes before another is made, so that never more are in memory.
        close: called with each that goes.
    Attributes:
        made: how many were made.
        taken: how often one was there already.
    """

    def __init__(self, most: int = 1, close: Callable[[T], None] = lambda gone: None) -> None:
        self.made = self.taken = 0
        self._most, self._close = most, close
        self._kept: dict[Hashable, T] = {}

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this key; `make` is called where it is not kept, and what that raises is kept from nobody."""
        if key in self._kept:
            self.taken += 1
            found = self._kept[key] = self._kept.pop(key)  # now the newest
            return found
        while len(self._kept) >= self._most:
            self._close(self._kept.pop(next(iter(self._kept))))
        made = make()
        self.made += 1
        self._kept[key] = made
        return made

    def clear(self) -> None:
        """Let everything go."""
        while self._kept:
            self._close(self._kept.pop(next(iter(self._kept))))
