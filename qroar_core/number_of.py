"""A number and what it counts: `1 window`, `8 windows`."""

from __future__ import annotations


def number_of(number: int, thing: str, things: str = "") -> str:
    """The number with thousands apart, and the word for one or for several of them; `things`: where no s makes it."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
