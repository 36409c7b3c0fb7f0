"""The end of the dashboard: jobs stop at their next step, and no thread is left inside torch when Python goes down."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import weakref

from qroar_core.jobs import Manager

PATIENCE = 5.0  # seconds a job has to reach its next step


def end_with(jobs: Manager) -> None:
    """Stop these jobs when the process ends, by SIGTERM, SIGINT or otherwise: Streamlit turns those into a normal end.

    Workers are daemon threads. One that still computes while Python is taken down aborts the process from inside a
    native library ("terminate called without an active exception"), so it is waited for.
    """
    atexit.register(_leave, weakref.ref(jobs))


def _leave(known: weakref.ref[Manager]) -> None:
    jobs = known()
    ended = jobs is None or jobs.close(PATIENCE)
    if ended and not any(thread.name.startswith("qroar-") for thread in threading.enumerate()):
        return
    logging.shutdown()  # a step longer than that, or a library that reads a file to its end: go without them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + signal.SIGTERM)  # what a shell says of a process that was stopped
