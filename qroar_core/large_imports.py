"""Large imports in less time: without looking for garbage meanwhile.

Importing PyTorch and transformers makes half a million objects that all stay. Python's garbage collector walks them
again and again while their number grows, a fifth of the processor time of the imports, and finds next to nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports(freeze: bool) -> Iterator[None]:
    """Import inside.

    Args:
        freeze: never walk again what is there at the end, the first time in a process. For a process of our own: what
            is garbage by then is never freed.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freeze and not gc.get_freeze_count():
            gc.freeze()
        (gc.enable if collected else gc.disable)()


def all_imported() -> None:
    """Inside `large_imports`, where what comes next makes garbage: collect it, but never walk what was imported."""
    if not gc.get_freeze_count():
        gc.freeze()
    gc.enable()
