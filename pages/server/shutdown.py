"""The end of the dashboard: jobs stop at their next step, and no thread is left inside torch when Python goes down."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qroar_core.jobs import Manager

PATIENCE = 5.0  # seconds a job has to reach its next step
KNOWN: weakref.WeakSet[Manager] = weakref.WeakSet()


def end_with(jobs: Manager) -> None:
    """Stop these jobs when the process ends.

    Workers are daemon threads. One that still computes while Python is taken down aborts the process from inside a
    native library ("terminate called without an active exception"), so it is waited for.
    """
    if not KNOWN:
        atexit.register(_leave)
    KNOWN.add(jobs)


@asynccontextmanager
async def until_the_end(server: Any) -> AsyncIterator[None]:
    """While the server runs. SIGTERM and SIGINT end it: then its jobs, and then the process by the same signal."""
    yield
    await asyncio.to_thread(_close)


def _close() -> bool:
    """Stop all jobs; False where one did not reach its next step in time."""
    return all([jobs.close(PATIENCE) for jobs in list(KNOWN)])


def _leave() -> None:
    """Where the process ends in another way than by its server's end."""
    if _close() and not any(thread.name.startswith("qroar-") for thread in threading.enumerate()):
        return
    logging.shutdown()  # a step longer than that, or a library that reads a file to its end: go without them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + signal.SIGTERM)  # what a shell says of a process that was stopped
