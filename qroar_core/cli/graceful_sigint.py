"""Ctrl-C that lets a search keep its best: the first ends it at the next step, the second at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qroar_core.progress import OnStep, cancellable


@contextmanager
def graceful_sigint(on_step: OnStep) -> Iterator[OnStep]:
    """`on_step` that raises Cancelled at the step after a Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # only that one may change what a signal does
        yield on_step
        return
    stop = threading.Event()

    def asked(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        sys.stderr.write("qroar: stopping at the next step; Ctrl-C again stops at once\n")

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield cancellable(on_step, stop)
    finally:
        signal.signal(signal.SIGINT, before)
