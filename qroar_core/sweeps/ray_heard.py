"""What workers of Ray say while they work, kept where the process that asked can see it. Imports nothing large."""

from __future__ import annotations


class Heard:
    """What workers say of themselves: an actor beside the process that asked."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, str]] = {}

    def say(self, name: str, done: float, what: str) -> None:
        """`done` cells of piece `name`, and what is being done."""
        self._said.pop(name, None)
        self._said[name] = done, what

    def all(self) -> dict[str, tuple[float, str]]:
        """By piece; who spoke last is last."""
        return self._said
